"""What gunicorn loads, in each worker after the fork: ``web.wsgi:app``."""

import gc
import logging

from gunicorn.arbiter import Arbiter

from actors.models.base import ModelError
from persistence.errors import CorruptLogError, PersistenceError
from web.app import create_app
from web.bootstrap import Gateway
from web.settings import SettingsError, load_settings

FORMAT = "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"
OURS = ("actors", "persistence", "web")

DAMAGED = (
    ". Nothing was changed: restore a backup (docs/deploy/backup.md says how), or serve another"
    " database; an event is never dropped to make the rest fit."
)


def way_out(error: Exception) -> str:
    """Return what to do about an error that keeps the gateway from starting."""
    return DAMAGED if isinstance(error, CorruptLogError) else ""


try:
    settings = load_settings()
    logging.basicConfig(format=FORMAT, datefmt="%Y-%m-%d %H:%M:%S %z", level=logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    gateway = Gateway(settings)
    gateway.start()
except (PersistenceError, SettingsError, ModelError) as error:
    logging.getLogger("gunicorn.error").critical("sessiond: %s%s", error, way_out(error))
    raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from error  # or a new worker would try again
app = create_app(gateway)

# What start-up has made stays for good, and requests make few cycles: look for them less often.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 20)
gc.enable()
