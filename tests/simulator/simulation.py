"""One simulated life of some processes, sessions, clients and readers."""

import contextlib
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256

import pykka
from msgspec import Struct

from actors import session_actor
from actors.feed import Committed
from actors.replay import stream_of
from tests.simulator.checker import Checker, Violation, require
from tests.simulator.clients import Asked, Client, Frames, Named, Reader
from tests.simulator.faults import Faults
from tests.simulator.process import RENEW_US, Process, Settings
from tests.simulator.scheduler import Scheduler, Task
from tests.simulator.store import SharedLog, Store

SETTLE_ROUNDS_MAX = 1_000
WRITES_PART = 0.4
"""How often, where something is to be written, that is what is done next."""

URGENT_PART = 0.6
"""How often actors and runs come first: otherwise clients would keep everybody busy."""

DUE = ("take over", "look", "look")


class Report(Struct):
    """What a run led to; ``violation`` is empty where all held."""

    seed: int
    digest: str
    steps: int
    violation: str
    counts: Counter[str]
    trace: list[str]


class World:
    """Everything there is; ``rng`` decides all of it."""

    def __init__(self, seed: int, log_type: type[SharedLog]) -> None:
        self.rng = random.Random(seed)
        self.scheduler = Scheduler()
        self.store = Store(random.Random(seed + 1), log_type)
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        self.elapsed_us = 0
        self.settling = False
        self.effects: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self.named: list[Named] = []
        self.clients: list[Client] = []
        self.readers: list[Reader] = []
        self.processes: list[Process] = []
        self.living: list[Process] = []
        self.step_number = 0
        self._ids = 0
        self._pace_us = self.rng.choice((20_000, 60_000, 150_000))
        self._settings = Settings(self.rng.choice(("interrupt", "continue")))
        self._faults = Faults(self)
        self._keys = [f"k{number}" for number in range(self.rng.choice((1, 1, 2, 3)))]
        self._steps = self.rng.randrange(80, 181)
        self.checker = Checker(self)
        for _process in range(self.rng.choice((2, 2, 3))):
            self.begin_process()
        for _reader in range(self.rng.randrange(3)):
            self._begin_reader()
        for _client in range(2):
            self._begin_client()

    def new_id(self, prefix: str) -> str:
        """Return an id that nothing else has."""
        self._ids += 1
        return f"{prefix}{self._ids}"

    def trace(self, line: str) -> None:
        """Note what happened."""
        self.lines.append(f"{self.step_number:4} {line}")

    def count(self, what: str) -> None:
        """Count what happened, for the table of coverage."""
        self.counts[what] += 1

    def fail(self, what: str) -> None:
        """End the run as a failure."""
        raise Violation(what)

    def any_process(self) -> Process:
        """Return some process that a client would find, or one that has just died."""
        return self.rng.choice(self.living or self.processes)

    def take_effect(self, call: str, process: Process) -> None:
        """Be the outer world that a tool changes."""
        if not process.dead:
            self.effects[call] += 1
            self._faults.in_a_tool(process)

    def deliver(self, frames: Frames, events: Sequence[Committed]) -> None:
        """Be a reader that gets events, which must follow what it has."""
        for committed in events:
            require(
                committed.seq == frames.after + 1, "I6", f"{committed.seq} follows {frames.after}"
            )
            frames.after = committed.seq
            frames.events.append(committed)

    def events_of(self, key: str) -> int:
        """Return how many events a session has."""
        head = self.store.log.head(stream_of(key))
        return 0 if head is None else int(head.version)

    def begin_process(self) -> Process:
        """Start a process, under a name of its own."""
        process = Process(
            f"P{len(self.processes) + 1}",
            self.store,
            self.scheduler,
            self.rng,
            self._settings,
            self,
        )
        self.processes.append(process)
        self.living.append(process)
        return process

    def run(self) -> None:
        """Live, settle, and check."""
        for number in range(self._steps):
            self.step_number = number
            if self.rng.random() < 0.05:
                self._begin_client()
            self._faults.step()
            self._step()
        self._settle()
        self.checker.check_all()

    def _step(self) -> None:
        """Do one thing."""
        self._pass_time(self.rng.randrange(self._pace_us))
        self._keep_leases()
        if self.store.notices and self.rng.random() < 0.5:
            self._take_notice()
        if self.living and self.rng.random() < 0.15:
            self._begin_due(self.rng.choice(self.living), self.rng.choice(DUE))
        choice = self.rng.random()
        if choice >= WRITES_PART or not self._write(choice < WRITES_PART / 2):
            part, urgent = self.rng.random(), self.rng.random() < URGENT_PART
            task = self.scheduler.pick(part, urgent=urgent)
            if task is not None:
                self._resume(task)
        self.checker.follow()

    def _write(self, through: bool) -> bool:
        """Let a writer do something, or all there is; tell whether there was anything."""
        writers = [each for each in self.living if each.writer.has_work and not each.paused]
        if not writers:
            return False
        process = writers[int(self.rng.random() * len(writers))]
        self.trace(f"{process} {process.writer.step()}")
        if through and process.writer.has_work:
            self.trace(f"{process} {process.writer.step()}")
        return True

    def _resume(self, task: Task) -> None:
        self.trace(task.name)
        self.scheduler.resume(task)
        if isinstance(task.host, Process) and task.host.exits and not task.host.dead:
            task.host.crash()

    def _pass_time(self, us: int) -> None:
        self.elapsed_us += us
        self.store.now_us += us

    def _keep_leases(self) -> None:
        for process in self.living.copy():
            if not process.paused and self.elapsed_us - process.renewed_us > RENEW_US:
                self._begin_due(process, "renew")

    def _begin_due(self, process: Process, name: str) -> None:
        """Have the process's own thread do what is due, unless it is busy."""
        if not process.serves or (process.busy is not None and not process.busy.dead):
            return
        process.busy = process.spawn(name, lambda: process.ownership.due(name))
        self._resume(process.busy)

    def _take_notice(self) -> None:
        index = self.rng.randrange(len(self.store.notices))
        name, notice = self.store.notices.pop(index)
        process = next((each for each in self.living if each.name == name), None)
        if process is None or process.paused or self.rng.random() < 0.1:
            self.count("notice lost")
            return
        if process.busy is not None and not process.busy.dead:
            self.count("notice lost")
            return
        process.busy = process.spawn("notice", lambda: process.ownership.notice(notice))
        self._resume(process.busy)

    def _begin_client(self) -> None:
        name = f"C{len(self.clients) + 1}"
        client = Client(self, name, self.rng.choice(self._keys))
        self.clients.append(client)
        self.scheduler.spawn(name, client.run, client)

    def _begin_reader(self) -> None:
        name = f"R{len(self.readers) + 1}"
        reader = Reader(self, name, self.rng.choice(self._keys))
        self.readers.append(reader)
        self.scheduler.spawn(name, reader.run, reader)

    def _settle(self) -> None:
        """Without any more faults, let everything that was accepted end."""
        self.settling = True
        self._faults.heal()
        for number in range(SETTLE_ROUNDS_MAX):
            if number % 30 == 29:
                self._answer_approvals()
            self._round()
            if self._settled():
                return
        behind = [each.name for each in self.readers if not self.checker.has_all(each.frames)]
        stuck = [each.name for each in self.clients if each.waits_for]
        self.fail(f"liveness: {self.store.log.active() + behind + stuck} do not settle")

    def _round(self) -> None:
        """Let everybody do one thing who can."""
        self.step_number += 1
        self._pass_time(self.rng.randrange(self._pace_us))
        self._keep_leases()
        process = self.living[self.step_number % len(self.living)]
        self._faults.fire(process)
        self._begin_due(process, self.rng.choice(DUE))
        while self.store.notices:
            self._take_notice()
        tasks = self.scheduler.ready()
        self.rng.shuffle(tasks)
        for task in tasks:
            if not task.dead and task.waits_for.ready():
                self._resume(task)
        for process in self.living:
            while process.writer.has_work:
                self.trace(f"{process} {process.writer.step()}")
        self.checker.follow()

    def _settled(self) -> bool:
        if self.store.log.active() or any(each.waits_for for each in self.clients):
            return False
        if not all(self.checker.has_all(each.frames) for each in self.readers):
            return False
        busy = [
            task
            for task in self.scheduler.tasks
            if task.waits_for.ready() or task.host in self.clients
        ]
        return not busy and not any(each.writer.has_work for each in self.living)

    def _answer_approvals(self) -> None:
        for key in self._keys:
            janitor = Client(self, f"J{self.step_number}", key)
            self.clients.append(janitor)
            self.scheduler.spawn(janitor.name, janitor.approve, janitor)

    def close(self) -> None:
        """End everything, as it is."""
        for process in self.processes:
            process.dead = True
        self.scheduler.close()


def simulate(seed: int, log_type: type[SharedLog] = SharedLog) -> Report:
    """Run a seed."""
    with _apart(seed):
        world = World(seed, log_type)
        violation = ""
        try:
            world.run()
        except Violation as error:
            violation = str(error)
        finally:
            world.close()
    text = "\n".join([*world.lines, violation])
    digest = sha256(text.encode()).hexdigest()[:16]
    return Report(seed, digest, world.step_number, violation, world.counts, world.lines)


@contextlib.contextmanager
def _apart(seed: int) -> Iterator[None]:
    """Keep what is global as it is: the actors' registry, the log's lines, the random module.

    Upkeep shuffles with the random module's own generator. Snapshots are frequent, for these
    streams are short.
    """
    found, disabled = random.getstate(), logging.root.manager.disable
    random.seed(seed)
    logging.disable(logging.CRITICAL)
    known = pykka.ActorRegistry.get_all()
    every, session_actor.SNAPSHOT_EVERY_EVENTS = session_actor.SNAPSHOT_EVERY_EVENTS, 12
    try:
        yield
    finally:
        for ref in pykka.ActorRegistry.get_all():
            if ref not in known:
                pykka.ActorRegistry.unregister(ref)
        session_actor.SNAPSHOT_EVERY_EVENTS = every
        logging.disable(disabled)
        random.setstate(found)
