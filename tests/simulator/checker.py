"""What must hold: some of it after each step, all of it at the end. See the invariants' numbers."""

from collections import Counter
from typing import Any

from actors.asking import Done, decode_outcome
from actors.replay import STREAM_PREFIX, decode, state_at
from actors.session import events as e
from actors.session.codec import encode_state
from actors.session.evolve import evolve
from actors.session.state import SessionState
from persistence import chain
from tests.simulator.clients import Asked, Frames

RUN_ENDS = (e.RunCompleted, e.RunFailed, e.RunAborted, e.RunInterrupted)


class Violation(AssertionError):
    """An invariant does not hold."""


def require(condition: object, invariant: str, what: str) -> None:
    """Raise Violation unless the condition holds."""
    if not condition:
        raise Violation(f"{invariant}: {what}")


class Stream:
    """One session's stream as the checker has followed it."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        self.seq = 0
        self.epoch = 0
        self.running: str | None = None
        self.waiting: list[str] = []
        self.open_tools: list[str] = []
        self.started_tools: dict[str, int] = {}
        self.outcomes: dict[str, str] = {}
        self.prompts: dict[str, int] = {}
        self.keys: dict[str, list[tuple[int, str]]] = {}
        self.deletions: list[int] = []
        self.exists = False
        self.names: Counter[str] = Counter()
        self.events: list[e.Event] = []

    def follow(self, stored: Any) -> None:
        """Take in the next event and check what can be known at once."""
        where = f"{self.stream_id} at seq {self.seq + 1}"
        require(stored.seq == self.seq + 1, "I2", f"{where} has seq {stored.seq}")
        require(stored.epoch >= self.epoch, "I3", f"{where} epoch {stored.epoch} < {self.epoch}")
        self.seq, self.epoch = stored.seq, stored.epoch
        event = decode(self.stream_id, stored)
        self.events.append(event)
        follow = _FOLLOW.get(type(event))
        if follow is not None:
            follow(self, event, where)

    def queued(self, event: e.PromptQueued, where: str) -> None:
        self._accepted(event.prompt_id, event.idempotency_key, where)
        self.waiting.append(event.prompt_id)

    def steered(self, event: e.SteeringReceived, where: str) -> None:
        self._accepted(event.steering_id, event.idempotency_key, where)
        require(self.running, "I5", f"{where}: steering without a run")

    def _accepted(self, prompt_id: str, idempotency_key: str, where: str) -> None:
        require(prompt_id not in self.prompts, "I1", f"{where}: {prompt_id} once more")
        self.prompts[prompt_id] = self.seq
        if not idempotency_key:
            return
        known = self.keys.setdefault(idempotency_key, [])
        again = known and not any(known[-1][0] < deleted for deleted in self.deletions)
        require(not again, "I4", f"{where}: the key {idempotency_key} once more")
        known.append((self.seq, prompt_id))

    def started(self, event: e.RunStarted, where: str) -> None:
        require(self.running is None, "I5", f"{where}: {event.prompt_id} beside {self.running}")
        require(event.prompt_id in self.waiting, "I5", f"{where}: {event.prompt_id} did not wait")
        self.waiting.remove(event.prompt_id)
        self.running = event.prompt_id

    def ended(self, event: Any, where: str) -> None:
        require(self.running == event.prompt_id, "I5", f"{where}: not the run in progress")
        require(not self.open_tools, "I5", f"{where}: {self.open_tools} have no results")
        self.running = None

    def cancelled(self, event: e.PromptCancelled, where: str) -> None:
        require(event.prompt_id in self.waiting, "I5", f"{where}: {event.prompt_id} did not wait")
        self.waiting.remove(event.prompt_id)

    def tool_started(self, event: e.ToolStarted, where: str) -> None:
        call = event.tool_call_id
        require(call not in self.started_tools, "I5", f"{where}: {call} is run again")
        self.started_tools[call] = self.seq
        self.open_tools.append(call)

    def tool_completed(self, event: e.ToolCompleted, where: str) -> None:
        call = event.tool_call_id
        require(call not in self.outcomes, "I5", f"{where}: {call} has two results")
        self.outcomes[call] = event.outcome
        if call in self.open_tools:
            self.open_tools.remove(call)

    def deleted(self, event: e.SessionDeleted, where: str) -> None:
        self.deletions.append(self.seq)
        self.exists = False

    def created(self, event: e.SessionCreated, where: str) -> None:
        self.exists = True

    def renamed(self, event: e.SessionRenamed, where: str) -> None:
        self.names[event.name] += 1
        require(self.names[event.name] == 1, "I1", f"{where}: {event.name} twice")


_FOLLOW: dict[type[e.Event], Any] = {
    e.SessionCreated: Stream.created,
    e.PromptQueued: Stream.queued,
    e.SteeringReceived: Stream.steered,
    e.RunStarted: Stream.started,
    e.PromptCancelled: Stream.cancelled,
    e.ToolStarted: Stream.tool_started,
    e.ToolCompleted: Stream.tool_completed,
    e.SessionDeleted: Stream.deleted,
    e.SessionRenamed: Stream.renamed,
    **dict.fromkeys(RUN_ENDS, Stream.ended),
}


class Checker:
    """Follows the log of a world."""

    def __init__(self, world: Any) -> None:
        self.streams: dict[str, Stream] = {}
        self._world = world
        self._log = world.store.log
        self._position = 0

    def follow(self) -> None:
        """Check what was appended since the last step."""
        tail = self._log._tail
        while self._position < len(tail):
            owned, seq = tail[self._position]
            self._position += 1
            stream_id, stored = owned.head.stream_id, owned.events[seq - 1]
            stream = self.streams.get(stream_id)
            if stream is None:
                stream = self.streams[stream_id] = Stream(stream_id)
            stream.follow(stored)
            self._world.count(stored.type)

    def stream(self, key: str) -> Stream:
        """Return a session's stream, an empty one where there is none."""
        return self.streams.get(STREAM_PREFIX + key) or Stream(key)

    def has_all(self, frames: Frames) -> bool:
        """Tell whether a reader has everything, unless the session is gone."""
        stream = self.stream(frames.key)
        return not stream.exists or frames.after == stream.seq

    def check_all(self) -> None:
        """Check the whole, once all is settled."""
        self.follow()
        states = {stream.stream_id: self._replayed(stream) for stream in self.streams.values()}
        for process in self._world.processes:
            if not process.dead:
                self._check_live(process, states)
        for asked in self._world.asked:
            self._check_asked(asked)
        for named in self._world.named:
            times = self.stream(named.key).names[named.name]
            wanted = times == 1 if named.seq else times <= 1
            require(wanted, "I1", f"{named} is there {times} times")
        for reader in self._world.readers:
            self._check_frames(reader.frames)
        self._check_effects()
        self._check_inbox()

    def _replayed(self, stream: Stream) -> list[SessionState]:
        """Check the chain, that all has ended, and that snapshots fit; return all states."""
        head = self._log.head(stream.stream_id)
        seq, last = chain.verify(stream.stream_id, self._log.read(head))
        require((seq, last) == (head.version, head.hash), "I9", f"{stream.stream_id} is cut off")
        require(stream.running is None, "I5", f"{stream.running} has no end")
        require(not stream.waiting, "liveness", f"{stream.waiting} still wait")
        states = [SessionState(stream.stream_id.removeprefix(STREAM_PREFIX))]
        for event in stream.events:
            states.append(evolve(states[-1], event))
        replayed = state_at(self._log, head)
        require(
            encode_state(replayed) == encode_state(states[-1]),
            "I7",
            f"{stream.stream_id} from its snapshot",
        )
        return states

    def _check_live(self, process: Any, states: dict[str, list[SessionState]]) -> None:
        for loaded in process.registry._sessions.all():
            state = loaded.feed.state
            if state is None or not state.version:
                continue
            replayed = states[STREAM_PREFIX + loaded.key]
            require(state.version < len(replayed), "I7", f"{process} is ahead of {loaded.key}")
            same = encode_state(state) == encode_state(replayed[state.version])
            require(same, "I7", f"{loaded.key} in {process} is not what the log says")
            if loaded.owned and self._log.owner(STREAM_PREFIX + loaded.key) == process.name:
                current = state.version == len(replayed) - 1
                require(current, "I7", f"{loaded.key} in {process} is behind the log")

    def _check_asked(self, asked: Asked) -> None:
        stream = self.stream(asked.key)
        if not asked.seq:
            return
        seq = stream.prompts.get(asked.acknowledged_as)
        require(seq is not None, "I1", f"{asked} is not in the log")
        assert seq is not None
        first = stream.events[asked.seq - 1]
        created = isinstance(first, e.SessionCreated) and asked.seq == seq - 1
        require(asked.seq == seq or created, "I4", f"{asked} is at {seq}")
        if asked.acknowledged_as != asked.prompt_id:
            event: Any = stream.events[seq - 1]
            same = (event.idempotency_key, event.text) == (asked.idempotency_key, asked.text)
            require(same, "I4", f"{asked} was taken for another")
            require(asked.prompt_id not in stream.prompts, "I4", f"{asked} is there as well")

    def _check_frames(self, frames: Frames) -> None:
        events = self.stream(frames.key).events
        got = [each.event for each in frames.events]
        require(got == events[: len(got)], "I6", f"a reader of {frames.key} got something else")

    def _check_effects(self) -> None:
        started = {
            call: stream.outcomes.get(call)
            for stream in self.streams.values()
            for call in stream.started_tools
        }
        for call, times in self._world.effects.items():
            require(times == 1 and call in started, "I5", f"{call} took effect {times} times")
        for call, outcome in started.items():
            require(outcome is not None, "I5", f"{call} has no result")
            self._world.count(f"outcome {outcome}")
            if call not in self._world.effects:
                unknown = outcome in ("outcome_unknown", "aborted")
                require(unknown, "I5", f"{call} has the outcome {outcome} and never ran")

    def _check_inbox(self) -> None:
        for row in self._world.store.rows.values():
            if row.answer is None:
                continue
            outcome = decode_outcome(row.answer)
            if isinstance(outcome, Done) and outcome.seq:
                stream = self.streams[row.message.stream_id]
                require(outcome.seq <= stream.seq, "I1", f"{row.message} was answered wrongly")
