"""What a closed call does with what comes too late for it."""

import socket
import threading
from collections.abc import Iterator

import pytest

from actors.models._call import Call, calling
from actors.models._failures import Failures
from actors.models.base import ModelError, Part
from actors.session.events import TextDelta

DEADLINE_S = 60.0
FAILURES = Failures("acme", "", 1.0)


class Response:
    """What a call needs of a response. Implements httpx2.Response.close."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class Stream:
    """Implements SdkStream."""

    def __init__(self) -> None:
        self.response = Response()  # type: ignore[assignment]


def parts(_stream: Stream) -> Iterator[Part]:
    yield TextDelta(0, "x")


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(DEADLINE_S)
    return ours, theirs


def test_a_connection_that_comes_too_late_is_shut_down() -> None:
    call: Call[Stream] = Call(Stream, parts, FAILURES)
    call.end()
    ours, theirs = pair()
    with ours, theirs:
        call.connected(ours)
        assert theirs.recv(1) == b""


def test_a_call_that_is_sent_elsewhere_closes_the_connection_it_has_now() -> None:
    call: Call[Stream] = Call(Stream, parts, FAILURES)
    first, first_peer = pair()
    second, second_peer = pair()
    with first, first_peer, second, second_peer:
        call.connected(first)
        call.connected(second)
        first.sendall(b"x")
        assert first_peer.recv(1) == b"x"
        call.end()
        assert second_peer.recv(1) == b""


def test_an_answer_that_comes_too_late_is_closed() -> None:
    begun, going_on = threading.Event(), threading.Event()
    stream = Stream()

    def begin() -> Stream:
        begun.set()
        assert going_on.wait(DEADLINE_S)
        return stream

    with calling(begin, parts, FAILURES) as call:
        closer = threading.Thread(target=lambda: begun.wait(DEADLINE_S) and call.close())
        closer.start()
        with pytest.raises(ModelError, match="closed"):
            list(call)
        closer.join(DEADLINE_S)
    assert not stream.response.closed.is_set()  # type: ignore[attr-defined]
    going_on.set()
    assert stream.response.closed.wait(DEADLINE_S)  # type: ignore[attr-defined]


def test_what_goes_wrong_apart_is_told_where_the_call_is_read() -> None:
    def begin() -> Stream:
        raise ZeroDivisionError

    with (
        calling(begin, parts, FAILURES) as call,
        pytest.raises(ModelError, match="ZeroDivisionError"),
    ):
        list(call)
