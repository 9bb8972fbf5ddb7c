from typing import Any, ClassVar

import msgspec
import pytest

from actors.session.codec import Codec, UnknownEventError
from actors.session.events import Event, TextDelta


class Renamed(Event, frozen=True):
    wire_name: ClassVar[str] = "thing.renamed"
    schema_version: ClassVar[int] = 3
    name: str
    at: int


def _two(fields: dict[str, Any]) -> dict[str, Any]:
    return {"title": fields["t"]}


def _three(fields: dict[str, Any]) -> dict[str, Any]:
    return {"name": fields["title"], "at": 0}


CODEC = Codec((Renamed,), {("thing.renamed", 1): _two, ("thing.renamed", 2): _three})


def test_an_old_payload_goes_through_each_of_its_upcasters() -> None:
    assert CODEC.decode("thing.renamed", 1, b'{"t":"a"}') == Renamed("a", 0)
    assert CODEC.decode("thing.renamed", 2, b'{"title":"b"}') == Renamed("b", 0)
    assert CODEC.decode("thing.renamed", 3, b'{"name":"c","at":7}') == Renamed("c", 7)


def test_an_event_of_a_newer_program_is_not_guessed_at() -> None:
    with pytest.raises(UnknownEventError, match="thing.renamed version 4"):
        CODEC.decode("thing.renamed", 4, b"{}")
    with pytest.raises(UnknownEventError, match="other"):
        CODEC.decode("other", 1, b"{}")


def test_a_payload_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError):
        Codec().decode("text.delta", 1, b'{"index":"x","text":"a"}')


def test_payloads_are_plain_json() -> None:
    assert Codec().encode(TextDelta(0, "né\n")) == '{"index":0,"text":"né\\n"}'.encode()
