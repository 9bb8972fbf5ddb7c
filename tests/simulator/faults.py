"""What goes wrong, as the seed says, and how it all ends when nothing goes wrong any more."""

from collections.abc import Callable
from typing import Any

from actors.mailbox import LetGo, Passivate
from actors.timers import Timer
from tests.simulator.actor import Reply
from tests.simulator.database import describe, describe_outcome
from tests.simulator.process import Look, Process
from tests.simulator.store import LEASE_US

PROCESSES_MAX = 8


class Faults:
    """Raises faults. Each seed has kinds and a rate of its own; some have none."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._rng = world.rng
        self._rate = self._rng.choice((0.0, 0.05, 0.1, 0.2))
        self._kinds = [kind for kind in KINDS if self._rng.random() < 0.6]

    def step(self) -> None:
        """Raise a fault now and then, and end those whose time is over."""
        for process in self._world.living:
            self._recover(process)
        if self._world.store.late and self._rng.random() < 0.1:
            self._commit_late()
        if self._kinds and self._rng.random() < self._rate:
            kind = self._rng.choice(self._kinds)
            process = self._rng.choice(self._world.living or self._world.processes)
            if not process.dead and KINDS[kind](self, process):
                self._world.trace(f"{process} FAULT {kind}")
                self._world.count(f"fault {kind}")
        if self._staying() < 2:
            self._restart()

    def in_a_tool(self, process: Process) -> None:
        """Crash a process while a tool runs, now and then."""
        likely = "crash" in self._kinds and not self._world.settling
        if likely and self._rng.random() < 2 * self._rate:
            process.exits = True
            self._world.trace(f"{process} FAULT crash in a tool")
            self._world.count("fault crash in a tool")

    def _staying(self) -> int:
        """Return how many processes live and are not about to stop."""
        return len([each for each in self._world.living if not each.leaving])

    def _recover(self, process: Process) -> None:
        now = self._world.step_number
        if process.paused and process.wakes_at <= now:
            process.paused = False
            self._world.trace(f"{process} wakes")
        if not process.connected and process.reconnects_at <= now:
            process.connected = True
            self._world.trace(f"{process} can reach the store")
        if process.timers and self._rng.random() < 0.1:
            self.fire(process)

    def _commit_late(self) -> None:
        """Let a batch commit that its process has given up, and may not have outlived."""
        writes = self._world.store.late.pop(0)
        outcomes = self._world.store.log.write(writes)
        found = ", ".join(map(describe_outcome, outcomes))
        self._world.trace(f"late commit of {describe(writes)} -> {found}")

    def _restart(self) -> None:
        if len(self._world.processes) < PROCESSES_MAX and self._rng.random() < 0.2:
            process = self._world.begin_process()
            self._world.trace(f"{process} starts")
            self._world.count("process restarts")

    def heal(self) -> None:
        """End all faults."""
        for process in self._world.processes:
            process.paused = False
            process.connected = True
            process.writer.fault = ""
        while self._world.store.late:
            self._commit_late()
        for _missing in range(2 - self._staying()):
            self._world.begin_process()

    def crash(self, process: Process) -> bool:
        process.crash()
        return True

    def pause(self, process: Process) -> bool:
        process.paused = True
        process.wakes_at = self._world.step_number + self._rng.randrange(3, 40)
        if self._rng.random() < 0.6:
            self._world._pass_time(LEASE_US + 1)
        return True

    def cut_off(self, process: Process) -> bool:
        process.connected = False
        process.reconnects_at = self._world.step_number + self._rng.randrange(2, 25)
        self._world.store.locks.discard(process.name)
        return True

    def outage(self, _process: Process) -> bool:
        for each in self._world.living:
            self.cut_off(each)
        return True

    def drop_lock(self, process: Process) -> bool:
        self._world.store.locks.discard(process.name)
        return True

    def lose_before(self, process: Process) -> bool:
        process.writer.fault = "before"
        return True

    def lose_after(self, process: Process) -> bool:
        process.writer.fault = "after"
        return True

    def lose_late(self, process: Process) -> bool:
        process.writer.fault = "late"
        return True

    def jump_database(self, _process: Process) -> bool:
        self._world.store.now_us += self._rng.randrange(-LEASE_US, 3 * LEASE_US)
        return True

    def jump_process(self, process: Process) -> bool:
        process.skew_ms += self._rng.randrange(-3_600_000, 3_600_000)
        return True

    def drain(self, process: Process) -> bool:
        if process.leaving:
            return False
        process.leaving = True
        process.spawn("drains", lambda: self._drain(process))
        return True

    def _drain(self, process: Process) -> None:
        process.registry.upkeep.drain(0)
        process.ownership.resign()
        self._world.trace(f"{process} has stopped")
        self._world.count("process stopped by itself")
        process.exits = True

    def passivate(self, process: Process) -> bool:
        return self._tell_all(process, Passivate())

    def let_go(self, process: Process) -> bool:
        return self._tell_all(process, LetGo())

    def _tell_all(self, process: Process, message: Any) -> bool:
        owned = list(process.registry._sessions.owned())
        for loaded in owned:
            loaded.tell(message)
        return bool(owned)

    def give_up(self, _process: Process) -> bool:
        waiting = [each for each in self._world.clients if each.waits_for is not None]
        if waiting:
            self._rng.choice(waiting).waits_for.lost = True
        return bool(waiting)

    def disconnect(self, _process: Process) -> bool:
        reading = [each for each in self._world.readers if each.response is not None]
        if reading:
            self._rng.choice(reading).response.lost = True
        return bool(reading)

    def time_out(self, process: Process) -> bool:
        replies = [
            task.waits_for
            for task in self._world.scheduler.tasks
            if task.host is process and isinstance(task.waits_for, (Reply, Look))
        ]
        if replies:
            self._rng.choice(replies).expired = True
        return bool(replies)

    def fire(self, process: Process) -> bool:
        calls, process.timers[:] = list(process.timers), []
        for call in calls:
            process.spawn("timer", Timer(call).fire)
        return bool(calls)

    def overdue(self, process: Process) -> bool:
        if process.paused:
            return False
        process.registry.upkeep.end_overdue()
        return True


KINDS: dict[str, Callable[[Faults, Process], bool]] = {
    "crash": Faults.crash,
    "pause": Faults.pause,
    "cut off": Faults.cut_off,
    "outage": Faults.outage,
    "lock dropped": Faults.drop_lock,
    "lost before commit": Faults.lose_before,
    "lost acknowledgement": Faults.lose_after,
    "late commit": Faults.lose_late,
    "database clock": Faults.jump_database,
    "process clock": Faults.jump_process,
    "drain": Faults.drain,
    "passivate": Faults.passivate,
    "let go": Faults.let_go,
    "client gives up": Faults.give_up,
    "reader disconnects": Faults.disconnect,
    "ask times out": Faults.time_out,
    "timer": Faults.fire,
    "overdue": Faults.overdue,
}
