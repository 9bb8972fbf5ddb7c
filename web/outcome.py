"""What became of one prompt, gathered from its events. Pure."""

from msgspec import Struct

from actors.session import events as e
from actors.session.messages import AssistantMessage, text_of
from actors.session.record_events import StreamErased
from actors.session.state import SessionState
from actors.session.summary import ShownApproval, shown_approvals

ABORTED = "aborted"
ERASED = "erased"


class Outcome(Struct):
    """Fold a prompt's events into the answer for the one who waits.

    ``status`` is None until the run has ended, then the HTTP status of the answer.
    """

    prompt_id: str
    response: str = ""
    error: str | None = None
    status: int | None = None
    started: bool = False
    approvals: list[ShownApproval] = []

    def settle(self, state: SessionState) -> None:
        """Stop waiting where the run can't go on before somebody approves."""
        run = state.run
        if self.status is None and run is not None and run.prompt_id == self.prompt_id:
            self.approvals = shown_approvals(state)
            if self.approvals:
                self.status = 202

    def follow(self, event: e.Event) -> None:
        """Take one event into account; those of other prompts change nothing."""
        if self.status is not None:
            return
        if isinstance(event, StreamErased):  # what became of the prompt may be gone with it
            self.status, self.error, self.response = 409, ERASED, ""
        elif getattr(event, "prompt_id", None) == self.prompt_id:
            self._follow_own(event)
        elif (
            self.started
            and isinstance(event, e.MessageCompleted)
            and isinstance(event.message, AssistantMessage)
        ):
            self.response = text_of(event.message.content)

    def _follow_own(self, event: e.Event) -> None:
        match event:
            case e.RunStarted():
                self.started = True
            case e.RunCompleted():
                self.status = 200
            case e.RunFailed():
                self.status, self.error = 502, event.error
            case e.RunAborted():
                self.status, self.error = 409, ABORTED
            case e.PromptCancelled():
                self.status, self.error = 409, event.reason
            case e.RunInterrupted():
                self.status, self.error = 503, event.reason
