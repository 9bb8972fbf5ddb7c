"""Check an exported session (JSON Lines) with Python's standard library and nothing else.

    python check_export.py session.jsonl

It is an independent reading of docs/audit.md: it follows the chain, the seal and the proof of
inclusion, and prints the checkpoint, whose signature is for any verifier of signed notes.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path


def sha256(*parts: bytes) -> bytes:
    """Return the digest of the parts, one after the other."""
    return hashlib.sha256(b"".join(parts)).digest()


def canonical(value: list[object]) -> bytes:
    """Return JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def payload_digest(line: bytes) -> bytes:
    """Return the digest of the payload's very bytes, which stand before the salt."""
    event = json.loads(line)
    if "payload" not in event:
        return bytes.fromhex(event["payloadDigest"])
    payload = line.partition(b',"payload":')[2].rpartition(b',"salt":"')[0]
    return sha256(bytes.fromhex(event["salt"]), payload)


def check_chain(stream: str, lines: list[bytes]) -> list[str]:
    """Return the hash of each event."""
    hashes = [bytes(32).hex()]
    for seq, line in enumerate(lines, start=1):
        event = json.loads(line)
        named = ("stream", "seq", "epoch", "type", "version", "recordedAtUs")
        optional = ("principal", "correlationId", "causationSeq")
        envelope = [*[event[name] for name in named], *[event.get(name) for name in optional]]
        linked = sha256(bytes.fromhex(hashes[-1]), canonical(envelope), payload_digest(line))
        if (event["stream"], event["seq"], event["hash"]) != (stream, seq, linked.hex()):
            raise SystemExit(f"seq {seq} is not what was written")
        hashes.append(linked.hex())
    return hashes


def check_inclusion(stream: str, proof: dict, hashes: list[str]) -> None:
    """Check that the checkpoint's tree has the stream's leaf (RFC 9162, 2.1.3.2)."""
    leaf = proof["leaf"]
    size, root = proof["checkpoint"].split("\n")[1:3]
    if leaf["hash"] != hashes[leaf["version"]]:
        raise SystemExit(f"seq {leaf['version']} is not the event that was signed")
    place, last = leaf["index"], int(size) - 1
    found = sha256(b"\0", canonical([stream, leaf["version"], leaf["hash"]]))
    for sibling in map(bytes.fromhex, proof["inclusion"]):
        if place % 2 or place == last:
            found = sha256(b"\1", sibling, found)
            while place and place % 2 == 0:
                place, last = place >> 1, last >> 1
        else:
            found = sha256(b"\1", found, sibling)
        place, last = place >> 1, last >> 1
    if last or base64.b64encode(found).decode() != root:
        raise SystemExit("the stream is not in the tree that was signed")


def main(path: str) -> str:
    """Check a file and return what it proves."""
    header, *events, proof_line, end_line, rest = Path(path).read_bytes().split(b"\n")
    head, end = json.loads(header)["head"], json.loads(end_line)["end"]
    stream = json.loads(header)["stream"]
    sealed = sha256(*[line + b"\n" for line in (header, *events, proof_line)]).hex()
    hashes = check_chain(stream, events)
    if rest or [len(events), sealed] != [end["events"], end["sha256"]]:
        raise SystemExit("the file is not whole")
    if (head["seq"], head["hash"]) != (len(events), hashes[-1]):
        raise SystemExit("the last event is not the one that the header names")
    said = f"{stream}: {len(events)} events, the last hash is {hashes[-1]}"
    proof = json.loads(proof_line)["proof"]
    if proof is None:
        return f"{said}\nnobody has signed where it ended"
    check_inclusion(stream, proof, hashes)
    until = proof["leaf"]["version"]
    return f"{said}\nup to seq {until} covered by this note:\n{proof['checkpoint']}"


sys.stdout.write(main(sys.argv[1]) + "\n")
