"""What a session's actor can be told or asked."""

from collections.abc import Callable

import msgspec

from actors.origin import Origin
from actors.runs.link import Reported
from actors.session import commands as c


class Report(msgspec.Struct, frozen=True):
    """A command from a run's worker; ``done`` gets what it led to once that is durable."""

    command: c.RunCommand
    done: Callable[[Reported], None]


class Reports(msgspec.Struct, frozen=True):
    """There are reports to ``take``: all that have gathered go into one append."""

    take: Callable[[], list[Report]]


class Ready(msgspec.Struct, frozen=True):
    """Nothing but a wait: answered once the session is loaded, or with why it can't be."""


class Asked(msgspec.Struct, frozen=True):
    """A command that another process sent: it is answered in the append that it leads to."""

    command: c.Command
    origin: Origin


class Passivate(msgspec.Struct, frozen=True):
    """Store a snapshot and stop, unless there is work or somebody watches."""


class LetGo(msgspec.Struct, frozen=True):
    """Stop, and let another process have the session; nothing may run."""


class CheckOwned(msgspec.Struct, frozen=True):
    """Stop if another process has the session by now."""


Message = c.Command | Reports | Ready | Asked | Passivate | LetGo | CheckOwned
