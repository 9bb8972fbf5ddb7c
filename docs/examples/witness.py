"""A witness: cosigns a log's checkpoints, each only where it continues the one before.

Run it from time to time on a machine that those who run the gateway can't reach:

    python witness.py http://gateway:8787 log.pub --name witness.example/w1 --folder state

``log.pub`` holds the log's verifier keys, one in a line. The first run makes the witness's key and
prints its verifier key, for the gateway's setting ``witnesses``. The variable WITNESS_TOKEN is a
token with the scope ``audit``.
"""

import argparse
import json
import os
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import click

from actors.audit.signing import notes
from actors.audit.signing.keys import SigningKey, read_or_generate
from persistence.errors import ProofError
from persistence.merkle import EMPTY_ROOT, verify_consistency

TIMEOUT_S = 30


def main() -> None:
    """Look at the latest checkpoint once; exit with a line that says why where it is refused."""
    parser = argparse.ArgumentParser(description="Cosign a log's latest checkpoint.")
    parser.add_argument("url")
    parser.add_argument("log_keys", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=Path, default=Path("witness"))
    arguments = parser.parse_args()
    key = read_or_generate(arguments.folder / "witness.key")[0]
    click.echo(notes.VerifierKey(arguments.name, notes.COSIGNATURE, key.public_key))
    try:
        log_keys = notes.parse_verifier_keys(arguments.log_keys.read_text())
        click.echo(witness(arguments.url, log_keys, arguments.name, key, arguments.folder))
    except ProofError as error:
        raise SystemExit(f"NOT COSIGNED: {error}") from error
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{arguments.url} refuses: {error}: {error.read().decode()}") from error
    except OSError as error:
        raise SystemExit(f"{arguments.url} can't be asked: {error}") from error


def witness(
    url: str,
    log_keys: tuple[notes.VerifierKey, ...],
    name: str,
    key: SigningKey,
    folder: Path,
) -> str:
    """Cosign the latest checkpoint. Raises ProofError where it does not continue the last one."""
    content = fetch(f"{url}/audit/checkpoints/latest").decode()
    checkpoint = notes.verify_checkpoint(content, log_keys)
    seen = folder / f"{checkpoint.origin.replace('/', '_')}.json"
    old = json.loads(seen.read_text()) if seen.exists() else {"size": 0}
    old_root = b64decode(old["root"]) if old["size"] else EMPTY_ROOT
    if checkpoint.size < old["size"]:
        raise ProofError(f"the log had {old['size']} leaves and has {checkpoint.size} now")
    path = f"/audit/consistency?from={old['size']}&to={checkpoint.size}"
    proof = [b64decode(each) for each in json.loads(fetch(url + path))["proof"]]
    verify_consistency(old["size"], checkpoint.size, proof, old_root, checkpoint.root)
    # Kept before it is signed: a witness never signs two histories.
    remember(seen, {"size": checkpoint.size, "root": b64encode(checkpoint.root).decode()})
    body = {"signature": cosign(checkpoint.text, name, key)}
    fetch(f"{url}/audit/checkpoints/{checkpoint.size}/cosignatures", body)
    return f"cosigned {checkpoint.origin} at size {checkpoint.size}"


def cosign(text: str, name: str, key: SigningKey) -> str:
    """Return a signature line as tlog-cosignature has it."""
    now_s = int(time.time())
    signed = key.sign(name, notes.cosigned_message(now_s, text).decode()).content
    own = notes.VerifierKey(name, notes.COSIGNATURE, key.public_key)
    return str(notes.Signature(name, own.id, now_s.to_bytes(notes.TIME_BYTES) + signed))


def remember(path: Path, what: dict[str, Any]) -> None:
    """Write a file, all or nothing, also where the power fails."""
    beside = path.with_suffix(".new")
    with beside.open("w") as file:
        file.write(json.dumps(what))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def fetch(url: str, body: object = None) -> bytes:
    """GET, or POST a JSON body, and return the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data)  # noqa: S310 - the operator's own URL
    request.add_header("Authorization", f"Bearer {os.environ.get('WITNESS_TOKEN', '')}")
    if data is not None:
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - see above
        content: bytes = answer.read()
        return content


if __name__ == "__main__":
    main()
