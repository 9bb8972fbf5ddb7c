"""The checkpoints of a serving process: where its key lies, when it signs."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from actors.audit.signing import keys
from actors.audit.signing.signer import Signer
from actors.gateway_state import UsedKey, UseSigningKey
from actors.timers import Timers, now_ms
from persistence.engine import is_sqlite, parse_url
from persistence.native import run_soon
from web.settings import Settings, SettingsError
from web.store import Store

KEY_SUFFIX = ".key"
"""What the name of an SQLite database is followed by in its key's."""

logger = logging.getLogger(__name__)


class Keyring:
    """The keys that sign, by the settings."""

    def __init__(self, settings: Settings) -> None:
        self.path = key_path(settings)
        self._own = settings.signing_key_file is None

    def read(self) -> Sequence[keys.SigningKey]:
        """Return the keys, the one in use first, or none; beside an SQLite database one is made.

        Raises KeyFileError.
        """
        if self.path is None:
            return ()
        return keys.read_or_generate(self.path) if self._own else keys.read_keys(self.path)


def key_path(settings: Settings) -> Path | None:
    """Return where the key lies; None where the settings name none."""
    if settings.signing_key_file is not None:
        return Path(settings.signing_key_file)
    url = parse_url(settings.database_url)
    return Path(f"{url.database}{KEY_SUFFIX}") if is_sqlite(url) else None


def make_signer(
    settings: Settings,
    store: Store,
    known_keys: Callable[[], Sequence[UsedKey]],
    use_key: Callable[[UseSigningKey], object],
) -> Signer:
    """Return what signs the checkpoints of a log."""
    return Signer(
        store.log,
        store.tree,
        store.shared_writer,
        Keyring(settings).read,
        known_keys,
        use_key,
        now_ms,
        settings.log_origin,
    )


def start_signing(signer: Signer, settings: Settings, timers: Timers) -> None:
    """Sign from time to time. Raises SettingsError where the settings' key can't be used."""
    try:
        has_key = bool(Keyring(settings).read())
    except keys.KeyFileError as error:
        raise SettingsError(f"{error} sessiond keys generate makes one.") from error
    if not has_key:
        logger.warning("No key signs checkpoints: over PostgreSQL set signing_key_file.")
    elif settings.checkpoint_minutes:
        period_s = settings.checkpoint_minutes * 60
        timers.every(period_s, lambda: run_soon(lambda: signer.sign_if_due(period_s)))
