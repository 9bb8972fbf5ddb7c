"""Makes a summary of a session's older messages, with the session's own model."""

from msgspec.structs import replace

from actors.models.base import Model
from actors.runs.compaction import OnCancel, context_tokens, plan, summarise
from actors.runs.model_call import Price
from actors.runs.transcript import Transcript
from actors.session.commands import Compaction


class Compactor:
    """Compacts transcripts."""

    def __init__(self, price: Price) -> None:
        self._price = price

    def compact(
        self, model: Model, transcript: Transcript, reason: str, on_cancel: OnCancel
    ) -> Compaction | None:
        """Return a summary and where what is kept begins; None where nothing can be cut.

        Blocks while the model answers. Raises ModelError.
        """
        before = context_tokens(transcript.conversation, compacted_at=transcript.compacted_at)
        window = model.context_tokens
        if reason == "overflow":  # it holds less than it is said to
            window = min(window, before)
        planned = plan(transcript.conversation, window_tokens=window, summary=transcript.summary)
        if planned is None:
            return None
        summary = summarise(
            model, planned.to_summarise, summary=transcript.summary, on_cancel=on_cancel
        )
        usage = replace(summary.usage, cost_usd=self._price(model, summary.usage))
        return Compaction(summary.text, planned.first_kept_seq, reason, before, usage)
