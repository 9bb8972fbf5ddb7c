"""Checkpoints of a running gateway, by HTTP, by the command line, and by a real witness."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.audit.signing import notes
from actors.audit.signing.keys import read_keys
from actors.audit.signing.proofs import StreamProof, check_proof
from persistence.errors import ProofError
from persistence.merkle import verify_consistency
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    DEADLINE_S,
    TWO_PROCESSES,
    Answer,
    RunningGateway,
    run_command,
    until,
)

WITNESS = Path(__file__).parents[2] / "docs/examples/witness.py"
TOKEN = "t0ken"
NAME = "witness.example/w1"
ORIGIN = "log.example/one"


@pytest.fixture(scope="module")
def witness_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("witness")


@pytest.fixture(scope="module")
def witness_key(witness_folder: Path) -> str:
    """The verifier key that a witness prints on its first run."""
    (witness_folder / "log.pub").touch()
    return run_witness("http://127.0.0.1:9", witness_folder).stdout.splitlines()[0]


@pytest.fixture(scope="module")
def gateway(
    open_gateway: OpenGateway, witness_key: str, witness_folder: Path
) -> Iterator[RunningGateway]:
    key_file = witness_folder / "signing.key"
    named = {"signing_key_file": key_file, "log_origin": ORIGIN}
    made = run_command(witness_folder, "keys", "generate", signing_key_file=key_file)
    assert made.returncode == 0, made.stderr
    (key,) = read_keys(key_file)
    (witness_folder / "log.pub").write_text(f"{key.named(ORIGIN)}\n")
    settings = {"checkpoint_minutes": 0, "witnesses": json.dumps([witness_key])}
    # A run is remembered after its answer, which would move the log at any time here.
    with open_gateway(token=TOKEN, memory_enabled=False, **settings, **named) as running:
        yield running


@pytest.fixture(scope="module")
def log_keys(gateway: RunningGateway, witness_folder: Path) -> tuple[notes.VerifierKey, ...]:
    return notes.parse_verifier_keys((witness_folder / "log.pub").read_text())


def run_witness(url: str, folder: Path, name: str = NAME) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, WITNESS, url, "log.pub", "--name", name, "--folder", "state"],
        cwd=folder,
        env=os.environ | {"WITNESS_TOKEN": TOKEN, "PYTHONPATH": str(WITNESS.parents[2])},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def ask(
    gateway: RunningGateway, method: str, path: str, body: object = None, token: str = TOKEN
) -> Answer:
    content = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}"}
    return gateway.request(method, path, content, headers=headers)


def prompt(gateway: RunningGateway, key: str) -> None:
    answer = ask(gateway, "POST", f"/sessions/{key}/messages", {"text": "hello"})
    assert answer.status == 200, answer


def sign(gateway: RunningGateway, key: str = "web:main") -> dict[str, Any]:
    """Have something happen, and a checkpoint signed; return the answer."""
    prompt(gateway, key)
    answer = ask(gateway, "POST", "/audit/checkpoints")
    assert answer.status == 200, answer
    assert answer.body["signed"]
    found: dict[str, Any] = answer.body
    return found


def proof_in(shown: dict[str, Any]) -> StreamProof:
    leaf = shown["leaf"]
    inclusion = tuple([bytes.fromhex(each) for each in shown["inclusion"]])
    return StreamProof(
        shown["checkpoint"], leaf["index"], leaf["version"], bytes.fromhex(leaf["hash"]), inclusion
    )


def test_a_checkpoint_signed_on_demand_proves_a_session_to_whoever_has_the_key(
    gateway: RunningGateway, log_keys: tuple[notes.VerifierKey, ...]
) -> None:
    signed = sign(gateway, "proven")
    checkpoint = notes.verify_checkpoint(signed["note"], log_keys)
    assert (checkpoint.origin, checkpoint.size) == (ORIGIN, signed["checkpoint"]["size"])
    latest = ask(gateway, "GET", "/audit/checkpoints/latest")
    assert latest.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert latest.body.decode() == signed["note"]
    assert ask(gateway, "DELETE", "/sessions/proven").status == 200  # its log stays, and is proven
    shown = ask(gateway, "GET", "/sessions/proven/audit/proof").body
    assert check_proof("session:proven", proof_in(shown), log_keys) == checkpoint
    with pytest.raises(ProofError):
        check_proof("session:other", proof_in(shown), log_keys)
    (key,) = ask(gateway, "GET", "/audit/keys").body["keys"]
    assert key["verifierKey"] == str(log_keys[0])
    assert shown["keys"] == [key["verifierKey"]]


def test_what_no_checkpoint_has_yet_is_said(gateway: RunningGateway) -> None:
    assert ask(gateway, "GET", "/sessions/never/audit/proof").status == 404
    sign(gateway)
    prompt(gateway, "later")
    answer = ask(gateway, "GET", "/sessions/later/audit/proof")
    assert answer.status == 404
    assert "POST /audit/checkpoints" in answer.body["error"]


def test_where_nothing_has_moved_nothing_is_signed(gateway: RunningGateway) -> None:
    signed = sign(gateway)
    again = ask(gateway, "POST", "/audit/checkpoints").body
    assert again == signed | {"signed": False}
    assert again["note"] == ask(gateway, "GET", "/audit/checkpoints/latest").body.decode()


def test_checkpoints_are_listed_and_each_continues_the_one_before(
    gateway: RunningGateway,
) -> None:
    made = [sign(gateway) for _ in range(3)]
    newest = [each["checkpoint"] for each in made[::-1]]
    first = ask(gateway, "GET", "/audit/checkpoints?limit=2").body
    assert first["checkpoints"] == newest[:2]
    assert first["nextBefore"] == newest[1]["size"]
    second = ask(gateway, "GET", f"/audit/checkpoints?limit=1&before={first['nextBefore']}").body
    assert second["checkpoints"] == newest[2:]
    old, new = newest[2], newest[0]
    assert ask(gateway, "GET", f"/audit/checkpoints/{old['size']}").body.decode() == made[0]["note"]
    path = f"/audit/consistency?from={old['size']}"
    shown = ask(gateway, "GET", path).body
    assert shown == ask(gateway, "GET", f"{path}&to={new['size']}").body
    proof = [b64decode(each) for each in shown["proof"]]
    roots = bytes.fromhex(old["root"]), bytes.fromhex(new["root"])
    verify_consistency(old["size"], new["size"], proof, *roots)
    for wrong in ("/audit/checkpoints/x", "/audit/checkpoints/0", f"{path}&to=99999999"):
        assert ask(gateway, "GET", wrong).status == 404
    assert ask(gateway, "GET", "/audit/consistency?from=-1").status == 400


def test_a_witness_cosigns_what_continues_what_it_saw_and_nothing_else(
    gateway: RunningGateway, witness_folder: Path, witness_key: str
) -> None:
    for _ in range(2):
        size = sign(gateway)["checkpoint"]["size"]
        done = run_witness(gateway.url, witness_folder)
        assert (done.returncode, done.stdout) == (
            0,
            f"{witness_key}\ncosigned {ORIGIN} at size {size}\n",
        ), done.stderr
    note = notes.parse_note(ask(gateway, "GET", "/audit/checkpoints/latest").body.decode())
    key = notes.parse_verifier_key(witness_key)
    assert notes.verify_note(note, [key]) == (key,)
    (seen,) = (witness_folder / "state").glob("*.json")
    known = json.loads(seen.read_text())
    stranger = run_witness(gateway.url, witness_folder, "witness.example/w2")
    assert stranger.returncode == 1
    assert "'witness.example/w2' with this key is none of the witnesses" in stranger.stderr
    for other in ({"size": known["size"] + 1}, {"root": "A" * 43 + "="}):
        seen.write_text(json.dumps(known | other))
        refused = run_witness(gateway.url, witness_folder)
        assert refused.returncode == 1
        assert refused.stderr.startswith("NOT COSIGNED: ")
    assert ask(gateway, "GET", "/audit/keys").body["witnesses"] == [witness_key]


def test_what_is_no_cosignature_is_refused(gateway: RunningGateway, witness_key: str) -> None:
    signed = sign(gateway)
    path = f"/audit/checkpoints/{signed['checkpoint']['size']}/cosignatures"
    own = str(notes.parse_note(signed["note"]).signatures[0])
    key = notes.parse_verifier_key(witness_key)
    forged = str(notes.Signature(key.name, key.id, bytes(72)))
    for signature in ("x", own, forged):
        assert ask(gateway, "POST", path, {"signature": signature}).status == 422
    missing = "/audit/checkpoints/1/cosignatures"
    assert ask(gateway, "POST", missing, {"signature": forged}).status == 404
    latest = ask(gateway, "GET", "/audit/checkpoints/latest").body.decode()
    assert latest == signed["note"]


def test_proofs_need_the_scope_audit_and_a_bound_token_gets_its_own(
    gateway: RunningGateway, log_keys: tuple[notes.VerifierKey, ...]
) -> None:
    prompt(gateway, "team-b:1")
    sign(gateway, "team-a:1")
    issued = {}
    for name, scopes, prefix in (("reader", ["read"], ""), ("auditor", ["audit"], "team-a:")):
        body = {"name": name, "scopes": scopes, "keyPrefix": prefix}
        issued[name] = ask(gateway, "POST", "/tokens", body).body["token"]
    routes = ("checkpoints", "checkpoints/latest", "consistency", "keys")
    for path in (*[f"/audit/{each}" for each in routes], "/sessions/team-a:1/audit/proof"):
        assert ask(gateway, "GET", path, token=issued["reader"]).status == 403
        assert ask(gateway, "GET", path, token=issued["auditor"]).status == 200
    assert (
        ask(gateway, "GET", "/sessions/team-b:1/audit/proof", token=issued["auditor"]).status == 404
    )
    for path, body in (
        ("/audit/checkpoints", None),
        ("/audit/checkpoints/1/cosignatures", {"signature": "x"}),
    ):
        assert ask(gateway, "POST", path, body, token=issued["auditor"]).status == 403


def test_the_commands_ask_the_running_gateway_and_rotate_its_key(
    gateway: RunningGateway, witness_folder: Path
) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"port": gateway.port, "token": TOKEN, "log_origin": ORIGIN}
        key_file = witness_folder / "signing.key"
        return run_command(gateway.folder, *arguments, **settings, signing_key_file=key_file)

    prompt(gateway, "web:main")
    (old,) = notes.parse_verifier_keys(command("keys", "public").stdout)
    note = command("checkpoint").stdout
    notes.verify_checkpoint(note, [old])
    (new,) = notes.parse_verifier_keys(command("keys", "rotate").stdout)
    assert command("keys", "retire").returncode == 1  # nothing says yet that it follows the old one
    prompt(gateway, "web:main")
    both = notes.parse_note(command("checkpoint").stdout)
    assert notes.verify_note(both, [old, new]) == (new, old)
    assert command("keys", "retire").returncode == 0
    alone = notes.parse_note(sign(gateway)["note"])
    assert notes.verify_note(alone, [old, new]) == (new,)
    listed = json.loads(command("keys", "list", "--json").stdout)
    assert [each["verifierKey"] for each in listed] == [str(old), str(new)]
    assert listed[1]["replaces"] == str(old)
    assert ask(gateway, "GET", "/audit/keys").body["keys"] == listed


@pytest.mark.skipif(TWO_PROCESSES, reason="beside an SQLite database only a key is made")
def test_a_gateway_over_sqlite_signs_by_itself_and_goes_on_after_a_kill(
    open_gateway: OpenGateway,
) -> None:
    with open_gateway(checkpoint_minutes=0.01, worker_class="gthread") as gateway:
        assert (gateway.folder / "sessiond.db.key").stat().st_mode & 0o777 == 0o600
        sizes = []
        for _ in range(2):
            prompt(gateway, "web:main")

            def covered() -> dict[str, Any] | None:
                proof = gateway.get("/sessions/web:main/audit/proof")
                version = gateway.get("/sessions/web:main/state").body["seq"]
                if proof.status != 200 or proof.body["leaf"]["version"] < version:
                    return None
                return proof.body

            shown = until(covered, "the session's end is signed")
            keys = [notes.parse_verifier_key(each) for each in shown["keys"]]
            sizes.append(check_proof("session:web:main", proof_in(shown), keys).size)
            gateway.restart()
        assert sizes[0] < sizes[1]
        assert len(gateway.get("/audit/keys").body["keys"]) == 1


def test_a_configured_key_that_is_not_there_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    refused = run_command(tmp_path, "serve", port=0, signing_key_file=tmp_path / "none.key")
    assert refused.returncode != 0
    assert "sessiond keys generate makes one" in refused.stderr
