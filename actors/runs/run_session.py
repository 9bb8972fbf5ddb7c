"""A session's actor, as its run's worker sees it."""

import threading
from collections.abc import Callable

import pykka

from actors.mailbox import Report, Reports
from actors.runs.link import VOID, Reported
from actors.session import commands as c
from actors.session_actor import SessionActor


class RunSession:
    """Takes a run's reports to the actor, all that have gathered at once. Implements Session."""

    def __init__(self, actor: pykka.ActorRef[SessionActor]) -> None:
        self._actor = actor
        self._lock = threading.Lock()
        self._reports: list[Report] = []

    def report(self, command: c.RunCommand, done: Callable[[Reported], None]) -> None:
        """See link.Session.report."""
        with self._lock:
            self._reports.append(Report(command, done))
            if len(self._reports) > 1:  # the actor has been told and will take this one too
                return
        try:
            self._actor.tell(Reports(self._take))
        except pykka.ActorDeadError:
            for report in self._take():
                report.done(VOID)

    def _take(self) -> list[Report]:
        with self._lock:
            reports, self._reports = self._reports, []
            return reports
