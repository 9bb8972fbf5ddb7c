"""The secret that the page's cookies are sealed with."""

import secrets

from web.settings import Settings

PROCESS_SECRET = secrets.token_bytes(32)
"""Made where gunicorn reads its configuration, before the fork: its workers have the same."""


def cookie_secret(settings: Settings) -> bytes:
    """Return the setting's secret, else the settings' token, else that of this gunicorn."""
    for given in (settings.ui_secret, settings.token):
        if given is not None:
            return given.get_secret_value().encode()
    return PROCESS_SECRET
