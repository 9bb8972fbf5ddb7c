"""The runs of a session, found in its log."""

from msgspec import Struct

from actors.audit.travel.places import event_at
from actors.replay import decode, unhurried
from actors.runs.conversation import message_of
from actors.session import events as e
from actors.session.messages import AssistantMessage, Usage, preview_of
from actors.session.state import ModelRef, SessionState
from persistence.event_log import EventLog
from persistence.records import Head, StoredEvent

SCANNED_EVENTS = 20_000
"""After so many events a page ends with the run that it has come to, however few it holds."""

OUTCOMES: dict[str, str] = {
    e.RunCompleted.wire_name: "completed",
    e.RunFailed.wire_name: "failed",
    e.RunAborted.wire_name: "aborted",
    e.RunInterrupted.wire_name: "interrupted",
}


class RunEntry(Struct):
    """One prompt's processing; ``prompt`` is None where it is erased.

    ``ended_seq`` and ``ended_at`` are None while it runs. Times are in milliseconds.
    """

    id: str
    started_seq: int = 0
    started_at: int = 0
    prompt: str | None = None
    outcome: str = ""
    ended_seq: int | None = None
    ended_at: int | None = None
    error: str = ""
    model: ModelRef | None = None
    usage: Usage = Usage()


def newest_runs(
    log: EventLog, head: Head, state: SessionState, *, before: int | None, limit: int
) -> tuple[list[RunEntry], int | None]:
    """Return runs of the session as it is in ``state``, the newest first.

    They are those that began before the seq ``before``, which is one where a run began. With them
    comes that seq for the next page, None where there are no more.
    """
    found: list[RunEntry] = []
    entry = RunEntry("")
    if before is None and state.run is not None:
        entry.outcome = "waiting" if state.pending else "running"
    last = state.version + 1 if before is None else min(before, state.version + 1)
    read = log.read(head, after=state.first_seq, before=last, newest_first=True)
    for scanned, stored in enumerate(unhurried(read), 1):
        _take(head, entry, stored)
        if stored.type != e.RunStarted.wire_name:
            continue
        entry.prompt = _preview(prompt_of(log, head, stored))
        found.append(entry)
        entry = RunEntry("")
        if len(found) == limit or scanned >= SCANNED_EVENTS:
            return found, stored.seq
    return found, None


def find_run(log: EventLog, head: Head, run_id: str) -> StoredEvent | None:
    """Return the event that began a run, None where there is no such run."""
    for stored in unhurried(log.read(head, newest_first=True)):
        if stored.type == e.RunStarted.wire_name and stored.correlation_id == run_id:
            return stored
    return None


def last_run(log: EventLog, head: Head, *, after: int, before: int) -> StoredEvent | None:
    """Return the event that began the last run between two seqs, None where none began."""
    for stored in unhurried(log.read(head, after=after, before=before, newest_first=True)):
        if stored.type == e.RunStarted.wire_name:
            return stored
    return None


def _take(head: Head, entry: RunEntry, stored: StoredEvent) -> None:
    """Take an event of a run into account; they come the newest first."""
    if stored.type in OUTCOMES:
        entry.outcome = OUTCOMES[stored.type]
        entry.ended_seq = stored.seq
        entry.ended_at = stored.recorded_at // 1_000
        event = decode(head.stream_id, stored)
        entry.error = getattr(event, "error", "") or getattr(event, "reason", "")
    elif not entry.outcome:
        return  # between two runs
    elif stored.type == e.RunStarted.wire_name:
        entry.id = stored.correlation_id or ""
        entry.started_seq = stored.seq
        entry.started_at = stored.recorded_at // 1_000
    elif stored.type in (e.TurnEnded.wire_name, e.ContextCompacted.wire_name):
        entry.usage += getattr(decode(head.stream_id, stored), "usage", Usage())
    elif stored.type == e.MessageCompleted.wire_name and entry.model is None:
        message = message_of(decode(head.stream_id, stored))
        if isinstance(message, AssistantMessage) and message.model_id:
            entry.model = ModelRef(message.provider, message.model_id)


def prompt_of(log: EventLog, head: Head, started: StoredEvent) -> e.PromptQueued | None:
    """Return the prompt that a run was started for; None where it is erased."""
    assert started.causation_seq is not None
    event = decode(head.stream_id, event_at(log, head, started.causation_seq))
    return event if isinstance(event, e.PromptQueued) else None


def _preview(prompt: e.PromptQueued | None) -> str | None:
    return None if prompt is None else preview_of(prompt.text)
