"""What is stored can't be read without the master key, nor once its stream's key is destroyed."""

import base64
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from persistence.errors import CorruptLogError
from persistence.stream_keys import KeyStore
from persistence.vault import Vault, VaultError
from tests.acceptance.gateway import run_command
from tests.integration.test_erasure import Client, canary_of, opened
from web.cli.main import main


def key_in(folder: Path, name: str = "master.key", byte: bytes = b"k") -> str:
    file = folder / name
    file.write_text(base64.b64encode(byte * 32).decode())
    return str(file)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("encryption")
    made = Client(folder, encryption_key_file=key_in(folder), memory_enabled=False)
    yield made
    made.gateway.stop(0)


def backup(client: Client, folder: Path) -> None:
    """Copy a database as a backup does, without its keys."""
    with (
        contextlib.closing(sqlite3.connect(client.folder / "sessiond.db")) as source,
        contextlib.closing(sqlite3.connect(folder / "sessiond.db")) as target,
    ):
        source.backup(target)


def texts(client: Client, key: str) -> list[str]:
    messages = client.ask("GET", f"/sessions/{key}/history")["messages"]
    return [each["parts"][0]["text"] for each in messages]


def test_readers_see_what_no_file_of_the_database_holds(client: Client) -> None:
    word = canary_of("k")
    client.say("k", word, **{"Idempotency-Key": word})
    client.ask("PATCH", "/sessions/k", {"name": word})
    client.ask("POST", "/sessions/k/compact")
    client.gateway.registry.upkeep.sweep("")
    assert texts(client, "k") == [word, word]
    found = client.traces("k")
    assert {"/sessions", "/sessions/k/history", "/sessions/k/log"} <= {*found}
    assert not [trace for trace in found if trace.startswith("sessiond.db")]
    client.check_chain("session:k")
    assert client.ask("GET", "/sessions/k/audit/verify")["ok"]


def test_a_backup_is_unreadable_once_the_session_is_erased(client: Client, tmp_path: Path) -> None:
    for key in ("doomed", "safe"):
        client.say(key, canary_of(key))
    backup(client, tmp_path)
    client.ask("POST", "/sessions/doomed/erase", {"reason": "r", "all": True})
    shutil.copy(client.folder / "sessiond.db.keys", tmp_path)
    with opened(tmp_path, encryption_key_file=key_in(tmp_path)) as restored:
        assert texts(restored, "safe") == [canary_of("safe")] * 2
        assert restored.status("GET", "/sessions/doomed") == 404
        assert restored.traces("doomed") == []
        restored.check_chain("session:doomed")
        assert restored.say("doomed", "anew") == "anew"
    client.say("doomed", "and here")
    assert texts(client, "doomed") == ["and here"] * 2


def test_without_the_right_master_key_and_the_keys_nothing_starts(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    with opened(tmp_path, encryption_key_file=key) as client:
        client.say("k", "word")
    other = key_in(tmp_path, "other.key", b"o")
    with pytest.raises(VaultError, match="encryption_key_file and encryption_keys_url"):
        Client(tmp_path, encryption_key_file=other)
    with pytest.raises(VaultError, match="The log is encrypted: set encryption_key_file"):
        Client(tmp_path)
    (tmp_path / "short.key").write_text("AAAA")
    with pytest.raises(VaultError, match="must hold 32 bytes"):
        Client(tmp_path, encryption_key_file=str(tmp_path / "short.key"))
    keys = tmp_path / "sessiond.db.keys"
    kept = keys.rename(tmp_path / "kept")
    with pytest.raises(VaultError, match="restore the keys' database"):
        Client(tmp_path, encryption_key_file=key)
    kept.rename(keys)
    with opened(tmp_path, encryption_key_file=key) as client:
        assert texts(client, "k") == ["word"] * 2


def test_what_was_written_before_it_was_switched_on_stays_readable(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        client.say("k", "clear")
    with opened(tmp_path, encryption_key_file=key_in(tmp_path)) as client:
        client.say("k", "sealed")
        assert texts(client, "k") == ["clear"] * 2 + ["sealed"] * 2
        client.check_chain("session:k")
        client.ask("POST", "/sessions/k/erase", {"reason": "r", "all": True})
        client.check_chain("session:k")


def test_another_master_key_takes_over(tmp_path: Path) -> None:
    old = key_in(tmp_path)
    with opened(tmp_path, encryption_key_file=old) as client:
        client.say("k", "word")
    made = run_command(tmp_path, "encryption", "generate", "new.key")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "new.key").stat().st_mode & 0o777 == 0o600
    assert run_command(tmp_path, "encryption", "generate", "new.key").returncode == 1
    rewrap = ("encryption", "rewrap", "new.key")
    done = run_command(tmp_path, *rewrap, encryption_key_file=old)
    assert done.returncode == 0, done.stderr
    with pytest.raises(VaultError):
        Client(tmp_path, encryption_key_file=old)
    with opened(tmp_path, encryption_key_file=str(tmp_path / "new.key")) as client:
        assert texts(client, "k") == ["word"] * 2


def test_a_master_key_that_was_exchanged_meanwhile_wraps_nothing_more(tmp_path: Path) -> None:
    store = KeyStore(sa.make_url(f"sqlite:///{tmp_path / 'keys'}"))
    running = Vault(b"1" * 32, store)
    sealed = running.seal("session:a", b"word")
    assert Vault(b"1" * 32, store).rewrap(b"2" * 32) == 2
    with pytest.raises(VaultError, match="master key"):
        running.seal("session:b", b"word")
    assert store.newest("session:b") is None
    assert Vault(b"2" * 32, store).open("session:a", sealed) == b"word"
    store.close()


def test_a_changed_byte_of_what_is_encrypted_is_noticed(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    with opened(tmp_path, encryption_key_file=key) as client:
        client.say("k", "word")
    with contextlib.closing(sqlite3.connect(tmp_path / "sessiond.db")) as database:
        database.executescript("DROP TRIGGER events_no_update")
        database.execute(
            "UPDATE events SET payload = CAST(substr(payload, 1, 30) || x'00' AS BLOB)"
            " WHERE type = 'prompt.queued'"
        )
        database.commit()
    with opened(tmp_path, encryption_key_file=key) as client:
        head = client.gateway.log.head("session:k")
        assert head is not None
        with pytest.raises(CorruptLogError, match="what is encrypted was changed"):
            list(client.gateway.log.read(head))


def test_postgresql_holds_keys_and_log_side_by_side(tmp_path: Path, postgres_url: sa.URL) -> None:
    url = postgres_url.render_as_string(hide_password=False)
    word = canary_of("k")
    with opened(
        tmp_path, database_url=url, encryption_key_file=key_in(tmp_path), memory_enabled=False
    ) as client:
        client.say("k", word)
        assert texts(client, "k") == [word] * 2
        rewrap = ("encryption", "rewrap", key_in(tmp_path, "new.key", b"2"))
        own = ("--database-url", url, "--encryption-key-file", key_in(tmp_path))
        refused = CliRunner().invoke(main, [*rewrap, *own])
        assert refused.exit_code == 1
        assert "Stop the gateway first" in refused.output
        engine = sa.create_engine(postgres_url)
        with engine.connect() as connection:
            for table in ("events", "snapshots", "streams"):
                rows = connection.execute(sa.text(f"SELECT {table}::text FROM {table}")).scalars()
                assert not [row for row in rows if word.encode().hex() in row]
            wanted = sa.text("SELECT id FROM stream_keys WHERE stream_id = 'session:k'")
            before = connection.execute(wanted).scalars().all()
            client.ask("POST", "/sessions/k/erase", {"reason": "r", "all": True})
            after = connection.execute(wanted).scalars().all()
            assert (len(before), len(after)) == (1, 1)
            assert before != after
        engine.dispose()
        assert client.say("k", "anew") == "anew"
        client.check_chain("session:k")
