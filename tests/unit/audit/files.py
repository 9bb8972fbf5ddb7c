"""Sessions to export, and checkpoints that cover them, made without a gateway."""

import io
from collections.abc import Sequence
from pathlib import Path

from actors.audit.exporting.file_check import FileReport, checked
from actors.audit.exporting.file_format import FORMATS
from actors.audit.exporting.writing import Exported, export_lines, in_file
from actors.audit.signing.keys import SigningKey, generate
from actors.audit.signing.notes import Checkpoint, Note
from actors.audit.signing.proofs import StreamProof
from actors.replay import stream_of
from actors.session import events as e
from actors.session.codec import Codec
from persistence import merkle
from persistence.event_log import EventLog
from persistence.records import Append, Claim, Head, NewEvent, Summary

NAME = "log.example/one"
AT = 1_790_000_000_000
UNLISTED = Summary(listed=False, active=False, body=b"{}")


def signing_key(folder: Path) -> SigningKey:
    return generate(folder / "signing.key")


def appended(
    log: EventLog, key: str, events: Sequence[e.Event], principal: str = "token:ci"
) -> Head:
    """Append events to a session as an actor would, without one."""
    (head,) = log.write([Claim(stream_of(key), "test")])
    assert isinstance(head, Head)
    encode = Codec().encode
    new = [
        NewEvent(each.wire_name, each.schema_version, encode(each), principal, "p1", 1)
        for each in events
    ]
    (head,) = log.write([Append(head, tuple(new), UNLISTED)])
    assert isinstance(head, Head)
    return head


def proven(head: Head, key: SigningKey) -> StreamProof:
    """Return the proof of a stream in a tree of three leaves."""
    leaves = [
        merkle.leaf_hash(merkle.leaf_data(stream_id, head.version, head.hash))
        for stream_id in ("gateway", head.stream_id, "memory:me")
    ]
    nodes: dict[merkle.Place, bytes] = {}

    def read(places: Sequence[merkle.Place]) -> dict[merkle.Place, bytes]:
        return {place: nodes[place] for place in places}

    tree = merkle.grow(0, leaves, read)
    nodes.update({(node.level, node.index): node.hash for node in tree.nodes})
    text = Checkpoint(NAME, tree.size, tree.root).text
    note = str(Note(text, (key.sign(NAME, text),)))
    return StreamProof(note, 1, head.version, head.hash, merkle.inclusion_proof(1, 3, read))


def exported_file(
    log: EventLog, key: str, proof: StreamProof | None = None, form: str = "jsonl"
) -> bytes:
    head = log.head(stream_of(key))
    assert head is not None
    exported = Exported(head, in_file(proof), (), AT)
    return b"".join(export_lines(log, exported, FORMATS[form]))


def report_of(content: bytes, public_keys: Sequence[str] = ()) -> FileReport:
    return checked(io.BytesIO(content), public_keys)[0]
