"""Clients that ask any process, give up, and try again elsewhere; readers that reconnect."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from actors.errors import SessionNotFound
from actors.feed import Committed, FeedClosedError
from actors.session import commands as c
from actors.tail import Tail
from persistence.errors import PersistenceError
from tests.simulator.process import Process, Response
from tests.simulator.scheduler import When, wait

TRIES_MAX = 4
QUEUE_MAX = 3


class Asked(Struct):
    """A prompt as a client sent it, once for each try; ``seq`` is set when it was acknowledged."""

    key: str
    prompt_id: str
    text: str
    idempotency_key: str
    acknowledged_as: str = ""
    seq: int = 0


class Named(Struct):
    """A session's new name as a client sent it; ``seq`` is set when it was acknowledged."""

    key: str
    name: str
    seq: int | None = None


class Frames(Struct):
    """What a reader has got over all its connections."""

    key: str
    after: int = 0
    events: list[Committed] = []


class Client:
    """Sends a few requests, each until it is answered or given up for good."""

    paused = False

    def __init__(self, world: Any, name: str, key: str) -> None:
        self.name = name
        self.waits_for: Response | None = None
        self._world = world
        self._rng = world.rng
        self._key = key

    def __str__(self) -> str:
        return self.name

    def run(self) -> None:
        """Do what clients do, as the seed says."""
        for _request in range(self._rng.randrange(1, 4)):
            if self._world.settling:
                return
            kind = self._rng.choices(list(_REQUESTS), [each[0] for each in _REQUESTS.values()])[0]
            _REQUESTS[kind][1](self)
            wait()

    def _try(self, name: str, call: Callable[[Process], object]) -> Response:
        """Ask some process once, and wait."""
        process: Process = self._world.any_process()
        response = process.request(f"{name} for {self.name}", lambda: call(process))
        self.waits_for = response
        wait(response)
        self.waits_for = None
        if response.error is not None:
            self._world.count(f"answer {type(response.error).__name__}")
        return response

    def prompt(self) -> None:
        key = self._world.new_id("k") if self._rng.random() < 0.7 else ""
        self.send(self._world.new_id("text"), key, self._rng.random() < 0.2)

    def send(self, text: str, idempotency_key: str, steer: bool) -> None:
        """Send a prompt until it is acknowledged; without a key as a new one each time."""
        kind = c.Steer if steer else c.QueuePrompt
        for _try in range(TRIES_MAX):
            prompt_id = self._world.new_id("p")
            asked = Asked(self._key, prompt_id, text, idempotency_key)
            self._world.asked.append(asked)

            def call(process: Process, asked: Asked = asked) -> tuple[str, int]:
                command = kind(
                    process.now_ms(),
                    f"s{asked.prompt_id}",
                    asked.prompt_id,
                    asked.text,
                    "sim",
                    QUEUE_MAX,
                    idempotency_key=asked.idempotency_key,
                    principal=self.name,
                )
                found, reader = process.registry.prompt(asked.key, command)
                reader.close()
                return found, reader.after + 1

            response = self._try("prompts", call)
            if response.value is not None and not response.lost:
                asked.acknowledged_as, asked.seq = response.value
                self._world.trace(f"{self} has {response.value} for {prompt_id}")
                self._world.count("acknowledged prompt")
                return

    def repeat(self) -> None:
        """Send what was sent with a key before, to this session, once more."""
        before = [
            each for each in self._world.asked if each.idempotency_key and each.key == self._key
        ]
        if before:
            asked = self._rng.choice(before)
            self.send(asked.text, asked.idempotency_key, False)

    def twins(self) -> None:
        """Have another client send the same prompt meanwhile."""
        text, key = self._world.new_id("text"), self._world.new_id("k")
        twin = Client(self._world, f"{self.name}'", self._key)
        self._world.scheduler.spawn(twin.name, lambda: twin.send(text, key, False), twin)
        self._world.clients.append(twin)
        self.send(text, key, False)

    def rename(self) -> None:
        named = Named(self._key, self._world.new_id("name"))
        self._world.named.append(named)
        response = self._ask("renames", lambda at: c.RenameSession(at, named.name))
        if response.value is not None and not response.lost:
            named.seq = response.value

    def abort(self) -> None:
        queue = self._rng.random() < 0.3
        self._ask("aborts", lambda at: c.AbortRun(at, queue))

    def reset(self) -> None:
        self._ask("resets", lambda at: c.ResetSession(at, self._world.new_id("s")))

    def delete(self) -> None:
        self._ask("deletes", c.DeleteSession)

    def select(self) -> None:
        self._ask("selects", lambda at: c.SelectModel(at, "sim", "other"))

    def reload(self) -> None:
        self._ask("reloads", c.ReloadSession)

    def create(self) -> None:
        self._ask("creates", lambda at: c.CreateSession(at, self._world.new_id("s")))

    def compact(self) -> None:
        def call(process: Process) -> int:
            state = process.registry.state(self._key)
            compaction = c.Compaction("a summary", max(1, state.version), "asked", 10)
            command = c.CompactContext(process.now_ms(), compaction, state.context_seq)
            return process.registry.ask(self._key, command)

        self._try("compacts", call)

    def approve(self) -> None:
        """Answer what waits for an approval, where something does."""
        approved = self._rng.random() < 0.7

        def call(process: Process) -> int:
            for approval in process.registry.state(self._key).pending:
                command = c.ResolveApproval(process.now_ms(), approval.approval_id, approved)
                return process.registry.ask(self._key, command)
            return 0

        self._try("answers", call)

    def _ask(self, name: str, make: Callable[[int], c.Command]) -> Response:
        return self._try(
            name, lambda process: process.registry.ask(self._key, make(process.now_ms()))
        )


_REQUESTS: dict[str, tuple[int, Callable[[Client], None]]] = {
    "prompt": (40, Client.prompt),
    "repeat": (10, Client.repeat),
    "twins": (8, Client.twins),
    "rename": (8, Client.rename),
    "abort": (5, Client.abort),
    "reset": (4, Client.reset),
    "delete": (4, Client.delete),
    "select": (2, Client.select),
    "reload": (2, Client.reload),
    "create": (2, Client.create),
    "compact": (3, Client.compact),
    "approve": (12, Client.approve),
}


class Reader:
    """Follows a session from its first event on, over as many connections as it takes."""

    paused = False

    def __init__(self, world: Any, name: str, key: str) -> None:
        self.name = name
        self.frames = Frames(key)
        self.response: Response | None = None
        self._world = world

    def __str__(self) -> str:
        return self.name

    def run(self) -> None:
        """Connect again and again."""
        while True:
            known = self._world.events_of(self.frames.key)
            response = self._connect(self._world.any_process())
            self.response = response
            wait(response)
            response.lost = True
            self._world.count("reader connects")
            wait()
            if isinstance(response.error, SessionNotFound):
                self._wait_for_more(known)

    def _wait_for_more(self, known: int) -> None:
        """Leave a session alone that was not there, until something happens to it."""
        wait(When(lambda: self._world.events_of(self.frames.key) != known))

    def _connect(self, process: Process) -> Response:
        response = process.request(
            f"streams to {self.name}", lambda: self._stream(process, response)
        )
        return response

    def _stream(self, process: Process, response: Response) -> bool:
        """Send what follows to the client, on the process's side, until one of them is gone."""
        frames = self.frames
        state, reader = process.registry.reader(frames.key)
        tail = Tail(process.view, frames.key, reader)
        try:
            if frames.after > state.version:
                self._world.count("reader told 412 though it is not ahead of the log")
                return True
            reader.after = frames.after
            while not response.lost:
                wait(When(lambda: response.lost or reader.wait(0)))
                if not response.lost:
                    self._world.deliver(frames, tail.next(0))
        except (FeedClosedError, PersistenceError):
            pass
        finally:
            tail.close()
        return True
