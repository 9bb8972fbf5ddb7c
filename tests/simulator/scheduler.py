"""Greenlets in place of threads: whoever waits says for what, and one scheduler goes on."""

from collections.abc import Callable
from typing import Protocol

from greenlet import GreenletExit, getcurrent, greenlet


class Waitable(Protocol):
    """What a task can wait for."""

    def ready(self) -> bool:
        """Tell whether the wait is over."""


class Host(Protocol):
    """Where a task lives: what is paused does not go on."""

    paused: bool


class Always:
    """Over at once: whoever waits for it lets others go first."""

    def ready(self) -> bool:
        return True


class When:
    """Over when the condition holds."""

    __slots__ = ("ready",)

    def __init__(self, condition: Callable[[], bool]) -> None:
        self.ready = condition


ALWAYS = Always()


class Task(greenlet):
    """Something that goes on whenever the scheduler picks it, until its next wait."""

    def __init__(
        self, scheduler: "Scheduler", name: str, call: Callable[[], object], host: Host
    ) -> None:
        super().__init__(call, scheduler.hub)
        self.scheduler = scheduler
        self.name = name
        self.host = host
        self.urgent = False
        self.waits_for: Waitable = ALWAYS
        self.killed = False


class Scheduler:
    """Holds the tasks in the order in which they began."""

    def __init__(self) -> None:
        self.hub = getcurrent()
        self.tasks: list[Task] = []

    def spawn(self, name: str, call: Callable[[], object], host: Host) -> Task:
        """Begin a task; it first runs when it is picked."""
        task = Task(self, name, call, host)
        self.tasks.append(task)
        return task

    def ready(self) -> list[Task]:
        """Return the tasks that can go on."""
        return [task for task in self.tasks if not task.host.paused and task.waits_for.ready()]

    def pick(self, part: float, *, urgent: bool) -> Task | None:
        """Return one that can go on, from this part of them on; the urgent ones or all."""
        tasks = [task for task in self.tasks if task.urgent] if urgent else self.tasks
        first = int(part * len(tasks))
        for index in range(first - len(tasks), first):
            task = tasks[index]
            if not task.host.paused and task.waits_for.ready():
                return task
        return None

    def resume(self, task: Task) -> None:
        """Let a task go on until it waits or ends; what it raises comes out here."""
        try:
            task.waits_for = task.switch()
        finally:
            if task.dead:
                self.tasks.remove(task)

    def kill(self, host: Host) -> None:
        """End all tasks of a host where they are; call it from the hub.

        What they do on the way out must find that nothing works any more.
        """
        killed = [task for task in self.tasks if task.host is host]
        self.tasks = [task for task in self.tasks if task.host is not host]
        for task in killed:
            task.killed = True
        for task in killed:
            task.throw(GreenletExit)

    def close(self) -> None:
        """End all tasks."""
        killed, self.tasks = self.tasks, []
        for task in killed:
            task.killed = True
        for task in killed:
            task.throw(GreenletExit)


def current_task() -> Task:
    """Return the task that runs."""
    task = getcurrent()
    assert isinstance(task, Task)
    return task


def wait(waitable: Waitable = ALWAYS) -> None:
    """Let others go on, at least until the wait is over."""
    task = current_task()
    if task.killed:
        raise GreenletExit
    task.scheduler.hub.switch(waitable)
