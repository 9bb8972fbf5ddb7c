"""The reference gateway's recorded answers, and how ours are compared with them.

A table gives every name of a recording its entry: ``Same`` where ours answers the same,
``Instead`` where it answers otherwise on purpose, ``Elsewhere`` where a test of its own looks at
it, ``Unseen`` where there is nothing to ask a gateway.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.acceptance.gateway import Answer, Frame, RunningGateway
from tests.wire.servers import (
    AnthropicWire,
    Ask,
    Finish,
    ModelServer,
    Recorded,
    Refuse,
    Say,
    Stall,
    Step,
    Think,
)

TESTS = Path(__file__).parents[1]
FOLDER = TESTS.parents[1] / "shared/reference"
VARY = ("sessionId", "id", "timestamp", "lastActiveAt", "createdAt", "updatedAt")
"""Fields whose values are new each time: only their types are compared."""

JSON = "application/json; charset=utf-8"
PROBLEM = "application/problem+json"
STREAM_HEADERS = ("content-type", "cache-control", "x-vercel-ai-ui-message-stream")
GATEWAY_TOOL = ("dynamic", "providerExecuted")
"""What chunks about tools have beside the reference's fields: the client is not to run them."""

TOOL = "bash"
TOOL_ERROR = f"There is no tool named '{TOOL}'."
DELTA_KEYS = ("type", "id", "contentIndex", "toolCallId")


@cache
def recording(name: str) -> dict[str, Any]:
    """Return a recording; skips the test where the recordings are not there."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the recording {path.name} is not there")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


class Call(NamedTuple):
    """A request; ``body`` is sent as JSON, bytes as they are."""

    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = {}


class Same(NamedTuple):
    """Ours has the recorded status and fields, in that order, and their values but for ``vary``.

    ``before`` is asked first.
    """

    call: Call
    vary: tuple[str, ...] = ()
    before: tuple[Call, ...] = ()


class Instead(NamedTuple):
    """Ours differs on purpose: ``why`` begins with the defect's number where it is one."""

    why: str
    call: Call
    status: int
    shows: Mapping[str, object] = {}
    before: tuple[Call, ...] = ()


class Elsewhere(NamedTuple):
    """A test looks at it: its name in this file, or path::name below tests/."""

    test: str
    why: str = ""


class Unseen(NamedTuple):
    """No request can tell."""

    why: str


Entry = Same | Instead | Elsewhere | Unseen
Table = Mapping[str, Entry]


def replays(table: Table) -> dict[str, Same | Instead]:
    """Return the entries that are a single request."""
    return {name: each for name, each in table.items() if isinstance(each, Same | Instead)}


def check_accounted(name: str, table: Table, module: str) -> None:
    """Check that every recorded name has its entry, and each entry's test is there."""
    for each in table.values():
        if isinstance(each, Elsewhere):
            path, _, test = each.test.rpartition("::")
            source = (TESTS / path if path else Path(module)).read_text()
            assert re.search(rf"^def {test}\(", source, re.MULTILINE), each.test
    assert set(table) == set(recording(name))


def send(gateway: RunningGateway, call: Call, headers: Mapping[str, str] = {}) -> Answer:
    """Make a request, with further headers."""
    body = call.body
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return gateway.request(call.method, call.path, body, headers={**headers, **call.headers})


def check_replay(
    gateway: RunningGateway, recorded: Any, entry: Same | Instead, headers: Mapping[str, str] = {}
) -> None:
    """Make the request again and compare its answer as the entry says."""
    for each in entry.before:
        send(gateway, each, headers)
    check_entry(send(gateway, entry.call, headers), recorded, entry)


def check_entry(answer: Answer, recorded: Any, entry: Same | Instead) -> None:
    """Compare an answer with the recorded one as the entry says."""
    status, body = _answer_of(recorded)
    if isinstance(entry, Same):
        check_answer(answer, status, body, entry.vary)
        return
    assert answer.status == entry.status
    if entry.shows:
        assert differences(entry.shows, answer.body) == []
    assert status != entry.status or differences(entry.shows, body), "so did the reference"


def check_answer(answer: Answer, status: int, body: Any, vary: Iterable[str] = ()) -> None:
    """Check an answer against the recorded one."""
    assert answer.status == status
    assert differences(body, answer.body or "", (*VARY, *vary)) == []
    assert answer.headers["Content-Type"] == (JSON if status < 400 else PROBLEM)
    assert "Content-Length" in answer.headers


def _answer_of(recorded: Any) -> tuple[int, Any]:
    if isinstance(recorded, list):
        status, body = recorded
    else:
        status, body = recorded["status"], recorded["body"]
    return status, body


def shape(value: Any) -> Any:
    """Reduce JSON to its types; objects keep their fields' names and order, null stays null."""
    match value:
        case None:
            return None
        case dict():
            return {name: shape(each) for name, each in value.items()}
        case list():
            return [shape(each) for each in value]
        case bool():
            return "<boolean>"
        case int() | float():
            return f"<{'integer' if isinstance(value, int) else 'number'}>"
    return "<string>"


def leveled(value: Any, vary: Iterable[str]) -> Any:
    """Reduce the fields that vary to their shapes, wherever they are."""
    if isinstance(value, dict):
        return {
            name: shape(each) if name in vary else leveled(each, vary)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [leveled(each, vary) for each in value]
    return value


def differences(expected: Any, ours: Any, vary: Iterable[str] = ()) -> list[str]:
    """Return what ours lacks of what is expected; what it has beside that is its own affair.

    An object has the expected fields in the same order. A list of another length has only
    elements like the expected ones. Null is a value that may be anything.
    """
    return list(_differences(leveled(expected, vary), leveled(ours, vary), "$"))


def _differences(expected: Any, ours: Any, at: str) -> Iterator[str]:
    if expected is None:
        return
    if isinstance(expected, Mapping) and isinstance(ours, dict):
        fields = [name for name in ours if name in expected]
        if fields != list(expected):
            yield f"{at}: fields {list(expected)}, not {list(ours)}"
            return
        for name, each in expected.items():
            yield from _differences(each, ours[name], f"{at}.{name}")
    elif isinstance(expected, list) and isinstance(ours, list):
        yield from _list_differences(expected, ours, at)
    elif expected != ours or isinstance(expected, bool) != isinstance(ours, bool):
        yield f"{at}: {expected!r}, not {ours!r}"


def _list_differences(expected: list[Any], ours: list[Any], at: str) -> Iterator[str]:
    if len(expected) == len(ours):
        for place, (one, other) in enumerate(zip(expected, ours, strict=True)):
            yield from _differences(one, other, f"{at}[{place}]")
    elif expected:
        if not ours:
            yield f"{at}: it is empty"
        for place, each in enumerate(ours):
            found = [list(_differences(one, each, f"{at}[{place}]")) for one in expected]
            yield from min(found, key=len)


def gathered(events: Iterable[Any]) -> list[Any]:
    """Return events with each run of deltas as one: how they are cut is nobody's business."""
    found: list[Any] = []
    for of, run in groupby(events, _delta_of):
        each = list(run)
        if of is None:
            found += each
        else:
            field = "inputTextDelta" if "inputTextDelta" in each[0] else "delta"
            found.append({**each[0], field: "".join(one[field] for one in each)})
    return found


def _delta_of(event: Any) -> tuple[object, ...] | None:
    """Return what a delta adds to; None for anything else."""
    if not isinstance(event, dict) or not {"delta", "inputTextDelta"} & event.keys():
        return None
    return tuple(event.get(name) for name in DELTA_KEYS)


def comparable(chunks: Iterable[Any]) -> list[Any]:
    """Return a chat's chunks as lists of fields, without what differs each time."""
    return [
        list(leveled(chunk, ("messageId", "toolCallId")).items())
        if isinstance(chunk, dict)
        else chunk
        for chunk in gathered(_without(chunks, GATEWAY_TOOL))
    ]


def _without(chunks: Iterable[Any], names: Sequence[str]) -> Iterator[Any]:
    for chunk in chunks:
        if isinstance(chunk, dict):
            yield {name: each for name, each in chunk.items() if name not in names}
        else:
            yield chunk


def without_tools(events: Iterable[Any]) -> list[Any]:
    """Return recorded chunks or events as they are where the tool that ran does not exist.

    Its progress is missing, and its result is an error, which a chat is told as such.
    """
    content = [{"type": "text", "text": TOOL_ERROR}]
    found: list[Any] = []
    for event in events:
        match event:
            case {"type": "tool-output-available", "toolCallId": call_id}:
                failed = {"type": "tool-output-error", "toolCallId": call_id}
                found.append({**failed, "errorText": TOOL_ERROR})
            case {"type": "tool_complete"}:
                result = {**event["result"], "content": content}
                found.append({**event, "result": result, "isError": True})
            case {"type": "tool_update"}:
                pass
            case _:
                found.append(event)
    return found


def check_sequence(expected: Iterable[Any], ours: Iterable[Frame], vary: Iterable[str]) -> None:
    """Check that events of ours follow one another like the expected ones; there may be more."""
    found = gathered(frame.data for frame in ours)
    left = iter(found)
    for each in gathered(expected):
        assert any(differences(each, one, vary) == [] for one in left), (each, found)


class StubModel(ModelServer):
    """A provider whose model does what the recordings' did: words of the prompt steer it.

    ``#deltas=n``: so many; ``#think`` and ``#tool``: before and after the text; ``#error``: it
    fails; ``#slow``: it ends when it is no longer ``held``.
    """

    def __init__(self) -> None:
        super().__init__(AnthropicWire())
        self.released.set()

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a gateway that calls this model; the recorded ones had no memory."""
        return {
            "ANTHROPIC_API_KEY": "none",
            "ANTHROPIC_BASE_URL": self.url,
            "SESSIOND_MEMORY_ENABLED": "false",
        }

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Let ``#slow`` prompts wait for the end of this block, or the call of what it yields."""
        self.released.clear()
        try:
            yield self.released.set
        finally:
            self.released.set()

    def take(self, request: Recorded) -> Sequence[Step] | Refuse:
        """Record a request and return its reply."""
        self.requests.append(request)
        told = [
            each
            for one in request.body["messages"]
            if one["role"] == "user"
            for each in one["content"]
        ]
        text = [each["text"] for each in told if each["type"] == "text"][-1]
        return reply_to(text, after_tool=told[-1]["type"] == "tool_result")


def reply_to(text: str, *, after_tool: bool = False) -> Sequence[Step] | Refuse:
    """Return what the model does with a prompt."""
    if "#error" in text:
        return Refuse(400, "It was told to fail.")
    steps: list[Step] = []
    if "#think" in text:
        steps.append(Think(["hm0 ", "hm1 ", "hm2 "]))
    count = re.search(r"#deltas=(\d+)", text)
    steps.append(Say([f"tok{number} " for number in range(int(count[1]) if count else 3)]))
    if "#tool" in text and not after_tool:
        steps.append(Ask("call_1", TOOL, ['{"command":', '"pwd"}']))
        return [*steps, Finish("tool_use")]
    if "#slow" in text:
        steps.append(Stall())
    return [*steps, Finish()]
