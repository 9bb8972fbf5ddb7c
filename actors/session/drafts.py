"""What the deltas of a message leave of a state, many at once. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.state import DraftBlock, SessionState

Delta = TextDelta | ThinkingDelta | ToolInputDelta

DELTAS: frozenset[type] = frozenset({TextDelta, ThinkingDelta, ToolInputDelta})


def drafted(state: SessionState, deltas: Sequence[Delta]) -> SessionState:
    """Return what ``evolve`` leads to by one delta after the other, without the states between."""
    blocks = list(state.draft[-1:])
    texts = [[block.text] for block in blocks]
    for delta in deltas:
        if not blocks or blocks[-1].index != delta.index:
            blocks.append(_begun(delta))
            texts.append([])
        texts[-1].append(delta.text)
    whole = [
        replace(block, text="".join(parts)) for block, parts in zip(blocks, texts, strict=True)
    ]
    version = state.version + len(deltas)
    return replace(state, version=version, draft=(*state.draft[:-1], *whole))


def answered(state: SessionState, deltas: Sequence[Delta]) -> SessionState:
    """Return the same without a draft, for a message that is whole with the next event."""
    return replace(state, version=state.version + len(deltas), draft=())


def _begun(delta: Delta) -> DraftBlock:
    match delta:
        case TextDelta():
            return DraftBlock("text", delta.index, "")
        case ThinkingDelta():
            return DraftBlock("thinking", delta.index, "")
        case ToolInputDelta():
            return DraftBlock("tool_input", delta.index, "", delta.tool_call_id, delta.tool_name)
