"""What gunicorn loads, in each worker after the fork: ``web.wsgi:app``."""

from web.app import create_app
from web.bootstrap import Gateway
from web.settings import load_settings

gateway = Gateway(load_settings())
gateway.start()
app = create_app(gateway)
