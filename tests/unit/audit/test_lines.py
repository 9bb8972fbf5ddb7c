"""An event's line says all of it, and nothing but what it says makes the event."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.audit.exporting.lines import LineError, decode_line, encode_line
from persistence.records import StoredEvent
from tests.properties.strategies import json_values

STREAM = "session:a"
WHOLE = StoredEvent(
    7,
    2,
    "run.started",
    1,
    1_700_000_000_000_000,
    "token:ci",
    "p1",
    3,
    b'{"prompt_id":"p1"}',
    b"s" * 16,
    b"",
    b"h" * 32,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(-(2**63), 2**63 - 1)
spaces = st.text(st.sampled_from(" \t\r\n"), max_size=2).map(str.encode)
json_texts = st.builds(
    lambda before, value, indent, after: (
        before + json.dumps(value, indent=indent, ensure_ascii=False).encode() + after
    ),
    spaces,
    json_values,
    st.none() | st.just(1),
    spaces,
)
payloads = st.none() | json_texts | st.binary(max_size=8)
stored_events = st.builds(
    StoredEvent,
    numbers,
    numbers,
    texts,
    numbers,
    numbers,
    st.none() | texts,
    st.none() | texts,
    st.none() | numbers,
    payloads,
    st.none() | st.binary(max_size=20),
    st.binary(max_size=33),
    st.binary(max_size=33),
)


@given(texts, stored_events)
def test_any_event_comes_back_from_its_line_bit_for_bit(name: str, event: StoredEvent) -> None:
    line = encode_line(name, event)
    assert b"\n" not in line
    assert json.loads(line)["seq"] == event.seq
    assert decode_line(line) == (name, event)


@pytest.mark.parametrize(
    "payload",
    [
        b" {}",
        b"{}\n",
        b'{"a": 1 , "b" : [ 2 ]}',
        b'"\xff"',
        b'"\xc3"',
        b'"\\ud800"',
        b"",
        b"1e999",
        b"nan",
        b"[" * 2_000 + b"]" * 2_000,
        b"{}{}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_payload_comes_back_whatever_it_is(payload: bytes) -> None:
    event = StoredEvent(1, 1, "t", 1, 1, None, None, None, payload, b"s" * 16, b"", b"h" * 32)
    line = encode_line(STREAM, event)
    assert decode_line(line) == (STREAM, event)
    assert b"\n" not in line


def test_a_payload_stands_in_its_line_as_it_is() -> None:
    line = encode_line(STREAM, WHOLE)
    assert b'"payload":{"prompt_id":"p1"}' in line
    assert json.loads(line) == {
        "stream": STREAM,
        "seq": 7,
        "epoch": 2,
        "type": "run.started",
        "version": 1,
        "recordedAtUs": 1_700_000_000_000_000,
        "hash": (b"h" * 32).hex(),
        "principal": "token:ci",
        "correlationId": "p1",
        "causationSeq": 3,
        "payload": {"prompt_id": "p1"},
        "salt": (b"s" * 16).hex(),
    }


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        encode_line(STREAM, WHOLE)[:-1],
        encode_line(STREAM, WHOLE).replace(b'"seq":7', b'"seq":"7"'),
        encode_line(STREAM, WHOLE).replace(b'"hash":"68', b'"hash":"6g'),
        encode_line(STREAM, WHOLE).replace(b'"salt":"73', b'"salt":"7'),
        encode_line(STREAM, WHOLE).replace(b'"payload":{', b'"payloadBase64":"?","p":{'),
    ],
)
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(LineError, match="not an event"):
        decode_line(line)
