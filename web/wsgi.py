"""What gunicorn loads, in each worker after the fork: ``web.wsgi:app``."""

import gc
import logging

from gunicorn.arbiter import Arbiter

from actors.models.base import ModelError
from persistence.errors import PersistenceError
from web.app import create_app
from web.bootstrap import Gateway
from web.settings import SettingsError, load_settings

try:
    gateway = Gateway(load_settings())
    gateway.start()
except (PersistenceError, SettingsError, ModelError) as error:
    logging.getLogger("gunicorn.error").critical("sessiond: %s", error)
    raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from error  # or a new worker would try again
app = create_app(gateway)

# What start-up has made stays for good, and requests make few cycles: look for them less often.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 20)
