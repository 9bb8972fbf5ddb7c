"""Why a command is refused; nothing happened then. Pure."""

from actors.session.state import Approval


class Rejection(Exception):
    """Base of the reasons to refuse a command; nothing happened."""


class QueueFull(Rejection):
    """As many prompts wait as the session's queue holds."""

    def __init__(self, pending: int) -> None:
        super().__init__(f"Queue full ({pending} pending).")
        self.pending = pending


class KeyReused(Rejection):
    """An idempotency key came again with another text."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The idempotency key {key!r} was used for another prompt.")


class SessionExists(Rejection):
    """The key already holds a conversation."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Session {key} already has messages: choose another key.")


class KeyTaken(Rejection):
    """A session is to be made, and there is one."""

    def __init__(self, key: str) -> None:
        super().__init__(f"There is a session {key} already: choose another key.")


class OnHold(Rejection):
    """Something is to be erased that has to be kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The session is on hold ({reason}): release it first.")


class SessionBusy(Rejection):
    """A part of a session is to be erased while something runs or waits in it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Session {key} is processing prompts: abort them first.")


class SessionMoved(Rejection):
    """The session has gone on since somebody looked at it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Session {key} has changed meanwhile: try again.")


class ApprovalNotFound(Rejection):
    """Nothing of that id waits for an approval."""

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"No tool call waits for the approval {approval_id!r}.")


class ApprovalAnswered(Rejection):
    """The approval was given or refused before, and not like this."""

    def __init__(self, approval: Approval) -> None:
        answer = "approved" if approval.approved else "denied"
        super().__init__(f"The approval {approval.approval_id!r} was {answer} before.")


class ContextChanged(Rejection):
    """The context was reset or compacted while a summary of it was made."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The context of session {key} has changed meanwhile: try again.")
