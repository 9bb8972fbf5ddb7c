"""A turn's model call: streamed into the log, and made again where that may help."""

import itertools
import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from actors.models.base import Finished, Model, ModelError, ModelRequest
from actors.runs.checks import check_message
from actors.runs.deltas import DeltaGatherer
from actors.runs.link import Reported, RunLink
from actors.session import commands as c
from actors.session.messages import AssistantMessage, Usage
from actors.timers import Timers

PARTS_BETWEEN_YIELDS = 32
DELAY_S_MAX = 60.0
"""A provider that asks for a longer pause is not asked again."""

Price = Callable[[Model, Usage], float]
"""Tells what a model call cost, in USD; 0 where nobody knows."""


class RetrySettings(Protocol):
    """How often a failed model call is made again."""

    model_retries_max: int
    model_retry_delay_s: float


class AnsweredCall(Struct, frozen=True):
    """A model's whole answer, and what its session made of it."""

    message: AssistantMessage
    reported: Reported


class CallFailed(Exception):
    """A model call failed for good; ``deltas`` is what had arrived and is not in the log yet."""

    def __init__(self, error: ModelError, deltas: tuple[c.Delta, ...] = ()) -> None:
        super().__init__(str(error))
        self.error = error
        self.deltas = deltas


class ModelCaller:
    """Makes the model calls of one run."""

    def __init__(
        self, link: RunLink, timers: Timers, settings: RetrySettings, price: Price
    ) -> None:
        self._link = link
        self._timers = timers
        self._settings = settings
        self._price = price

    def answer(self, model: Model, request: ModelRequest) -> AnsweredCall:
        """Call the model until it answers; each attempt that fails is in the log.

        Raises CallFailed when it fails for good, RunOver.
        """
        for attempt in itertools.count(1):
            try:
                return self._attempt(model, replace(request, attempt=attempt))
            except CallFailed as failed:
                delay_s = self._delay_s(failed.error, attempt)
                if delay_s is None:
                    raise
                self.record_retry(failed, attempt + 1, delay_s)
                self._link.sleep(delay_s)
        raise AssertionError("the attempts never end by themselves")

    def record_retry(self, failed: CallFailed, attempt: int, delay_s: float = 0.0) -> None:
        """Record that the turn's call will be made again. Raises RunOver."""
        link = self._link
        delay_ms = int(delay_s * 1000)
        link.ask(
            c.RetryTurn(
                link.now_ms(), link.prompt_id, attempt, str(failed), delay_ms, failed.deltas
            )
        )

    def _delay_s(self, error: ModelError, attempt: int) -> float | None:
        """Return how long to wait before the next attempt; None where there is to be none."""
        if not error.retryable or error.overflow or attempt > self._settings.model_retries_max:
            return None
        backoff_s = self._settings.model_retry_delay_s * 2 ** (attempt - 1)
        if error.retry_after_s is None:
            return float(min(backoff_s, DELAY_S_MAX))
        return error.retry_after_s if error.retry_after_s <= DELAY_S_MAX else None

    def _attempt(self, model: Model, request: ModelRequest) -> AnsweredCall:
        gatherer = DeltaGatherer(self._start_message, self._record_deltas, self._timers)
        try:
            return self._stream(model, request, gatherer)
        except ModelError as error:
            self._link.check()
            raise CallFailed(error, gatherer.close()) from error
        finally:
            gatherer.close()

    def _stream(self, model: Model, request: ModelRequest, gatherer: DeltaGatherer) -> AnsweredCall:
        with model.stream(request) as stream, self._link.on_cancel(stream.close):
            for number, part in enumerate(stream):
                self._link.check()
                if number % PARTS_BETWEEN_YIELDS == 0:
                    time.sleep(0)  # a burst of parts must not hold up everyone else
                if isinstance(part, Finished):
                    return self._complete(model, part.message, gatherer)
                gatherer.add(part)
        raise ModelError("The model's answer broke off.", retryable=True)

    def _complete(
        self, model: Model, message: AssistantMessage, gatherer: DeltaGatherer
    ) -> AnsweredCall:
        check_message(message)
        now = self._link.now_ms()
        usage = replace(message.usage, cost_usd=self._price(model, message.usage))
        answer = replace(message, timestamp=now, usage=usage)
        command = c.CompleteMessage(now, self._link.prompt_id, gatherer.close(), answer)
        return AnsweredCall(answer, self._link.ask(command))

    def _start_message(self, deltas: tuple[c.Delta, ...], done: Callable[[], None]) -> None:
        link = self._link
        link.tell(c.StartMessage(link.now_ms(), link.prompt_id, deltas), done)

    def _record_deltas(self, deltas: tuple[c.Delta, ...], done: Callable[[], None]) -> None:
        link = self._link
        link.tell(c.RecordDeltas(link.now_ms(), link.prompt_id, deltas), done)
