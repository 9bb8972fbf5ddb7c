"""Random events and commands for the property tests."""

from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from msgspec import Struct

from actors.session import commands as c
from actors.session import events as e
from actors.session.evolve import fold
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
)
from actors.session.record_events import RECORD_EVENTS
from actors.session.state import SessionState

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.integers(0, 2**50)
indexes = st.integers(0, 4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
blocks: st.SearchStrategy[Block] = (
    st.builds(Text, texts)
    | st.builds(Thinking, texts, texts)
    | st.builds(ToolCall, texts, texts, json_values)
)
image_tuples = st.lists(st.builds(Image, texts, texts), max_size=2).map(tuple)
contents = st.lists(blocks, max_size=3).map(tuple)
usages = st.builds(Usage, *[st.integers(0, 10_000)] * 4)
assistant_messages = st.builds(
    AssistantMessage,
    contents,
    times,
    texts,
    texts,
    st.sampled_from(["stop", "length", "tool_use"]),
    usages,
    texts,
)
messages = (
    st.builds(UserMessage, contents, times)
    | assistant_messages
    | st.builds(ToolResultMessage, texts, texts, contents, times, st.booleans(), json_values)
)
deltas = (
    st.builds(e.TextDelta, indexes, texts)
    | st.builds(e.ThinkingDelta, indexes, texts)
    | st.builds(e.ToolInputDelta, indexes, texts, texts, texts)
)

_FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    str: texts,
    int: times,
    bool: st.booleans(),
    tuple[Image, ...]: image_tuples,
    Any: json_values,
    Usage: usages,
    tuple[Block, ...]: contents,
    AssistantMessage: assistant_messages,
}


def _field(kind: type[e.Event], name: str, hint: object) -> st.SearchStrategy[Any]:
    if kind is e.MessageCompleted and name == "message":
        return messages
    return indexes if name in ("index", "turn") else _any_of(hint)


def _any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return what a field holds: one of the above, or made of them."""
    if hint in _FIELDS:
        return _FIELDS[hint]
    if isinstance(hint, type) and issubclass(hint, Struct):
        hints = get_type_hints(hint)
        return st.builds(hint, **{name: _any_of(hints[name]) for name in hint.__struct_fields__})
    if get_origin(hint) is not tuple:
        return st.one_of([_any_of(each) for each in get_args(hint)])
    each, *others = get_args(hint)
    if others == [...]:
        return st.lists(_any_of(each), max_size=2).map(tuple)
    return st.tuples(*[_any_of(one) for one in (each, *others)])


def _events_of(kind: type[e.Event]) -> st.SearchStrategy[e.Event]:
    hints = get_type_hints(kind)
    fields = {name: _field(kind, name, hints[name]) for name in kind.__struct_fields__}
    return st.builds(kind, **fields)


_plain_events = st.one_of([_events_of(kind) for kind in e.EVENT_TYPES])
states = st.lists(_plain_events, max_size=3).map(lambda history: fold(SessionState("k"), history))
_FIELDS[SessionState] = states
events = st.one_of([_plain_events, *[_events_of(kind) for kind in RECORD_EVENTS]])

approval_ids = st.sampled_from(["a1", "a2"])
tool_requests = st.lists(
    st.builds(
        c.ToolRequest, approval_ids, st.sampled_from(["t1", "t2"]), texts, json_values, texts
    ),
    min_size=1,
    max_size=2,
).map(tuple)
compactions = st.builds(c.Compaction, texts, times, texts, times, usages)
prompt_ids = st.sampled_from(["p1", "p2", "p3", "p4"])
tool_ids = st.sampled_from(["t1", "t2"])
delta_tuples = st.lists(deltas, max_size=3).map(tuple)
commands: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(c.CreateSession, times, texts),
    st.builds(c.QueuePrompt, times, texts, prompt_ids, texts, texts, st.integers(0, 3), texts),
    st.builds(c.Steer, times, texts, prompt_ids, texts, texts, st.integers(0, 3), texts),
    st.builds(c.RenameSession, times, texts),
    st.builds(c.ResetSession, times, texts),
    st.builds(c.ReloadSession, times),
    st.builds(c.DeleteSession, times),
    st.builds(c.SelectModel, times, texts, texts, st.none() | texts, st.booleans()),
    st.builds(c.AbortRun, times, st.booleans()),
    st.builds(c.InterruptRun, times, texts),
    st.builds(c.StartMessage, times, prompt_ids, delta_tuples),
    st.builds(c.RecordDeltas, times, prompt_ids, delta_tuples),
    st.builds(c.CompleteMessage, times, prompt_ids, delta_tuples, assistant_messages),
    st.builds(c.StartTool, times, prompt_ids, tool_ids, texts, json_values),
    st.builds(c.CompleteTool, times, prompt_ids, tool_ids, texts, texts, contents, json_values),
    st.builds(c.NextTurn, times, prompt_ids, assistant_messages),
    st.builds(c.RetryTurn, times, prompt_ids, indexes, texts, times, delta_tuples),
    st.builds(c.RequestApprovals, times, prompt_ids, tool_requests, times),
    st.builds(c.ResolveApproval, times, approval_ids, st.booleans(), texts),
    st.builds(c.ExpireApprovals, times),
    st.builds(c.ProgressTool, times, prompt_ids, tool_ids, texts, texts),
    st.builds(c.CompactContext, times, compactions, st.integers(0, 3)),
    st.builds(c.CompactRunContext, times, prompt_ids, compactions),
    st.builds(c.FailRun, times, prompt_ids, texts, delta_tuples),
)
