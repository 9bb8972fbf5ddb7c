"""What gunicorn loads, in each worker after the fork: ``web.wsgi:app``."""

import gc

from web.app import create_app
from web.bootstrap import Gateway
from web.settings import load_settings

gateway = Gateway(load_settings())
gateway.start()
app = create_app(gateway)

# What start-up has made stays for good, and requests make few cycles: look for them less often.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 20)
