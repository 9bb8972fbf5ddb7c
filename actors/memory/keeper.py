"""Memory's part in a run: recalled before each model call, written after the run."""

import logging
from collections.abc import Callable, Sequence

from actors.memory.recall import Recalled
from actors.memory.rules import Episode, Recall
from actors.memory.service import MemoryService, MemorySettings
from actors.memory.writer import memories_in, worth_remembering
from actors.models.base import Model, ModelError
from actors.models.catalog import ModelCatalog
from actors.replay import decode
from actors.runs.conversation import message_of
from actors.session.messages import AssistantMessage, Message, UserMessage, text_of
from actors.session.state import Run, SessionState
from actors.timers import Timers
from persistence.errors import PersistenceError
from persistence.event_log import EventLog
from persistence.native import run_soon
from persistence.records import Head

RUN_MESSAGES_MAX = 200

logger = logging.getLogger(__name__)


class MemoryKeeper:
    """Keeps memory while sessions run. Nothing that goes wrong here ends a run."""

    def __init__(
        self,
        service: MemoryService,
        log: EventLog,
        models: ModelCatalog,
        timers: Timers,
        settings: Callable[[], MemorySettings],
        now_ms: Callable[[], int],
    ) -> None:
        self._service = service
        self._log = log
        self._models = models
        self._timers = timers
        self._settings = settings
        self._now_ms = now_ms

    def recaller(self, key: str, run: Run) -> Callable[[Model, Sequence[Message]], str]:
        """Return what tells a run's model what is remembered of its last user message.

        The first call waits until the session's run before is remembered. What a model was told
        is recorded, once for as long as it is the same.
        """
        told: list[Recalled] = []

        def recall(model: Model, messages: Sequence[Message]) -> str:
            if not model.remembers or not self._service.enabled:
                return ""
            try:
                self._service.settle(key)
                return self._recall(key, run, _last_user_text(messages), told)
            except PersistenceError:
                logger.exception("Nothing is recalled for session %s.", key)
                return ""

        return recall

    def _recall(self, key: str, run: Run, text: str, told: list[Recalled]) -> str:
        identity = self._service.identity(key)
        found = self._service.recall(identity, text)
        if found.text and found != (told[-1] if told else None):
            told[:] = [found]
            note = Recall(
                self._now_ms(),
                found.memory_ids,
                found.episode_ids,
                key,
                run.prompt_id,
                principal=run.principal,
            )
            self._service.note(identity, note)
        return found.text

    def run_ended(self, head: Head, run: Run, state: SessionState, *, completed: bool) -> None:
        """Remember a run that has ended, on a thread of its own; does not block.

        ``state`` is the session's just before. Only of a run that completed the session's model
        is asked what is worth remembering.
        """
        key = state.key
        if not self._service.enabled:
            return
        self._service.begin_writing(key)

        def remember() -> None:
            try:
                said = self._record(head, run, state)
                if completed and self._settings().memory_writer_enabled:
                    self._write(run, state, said)
            except (PersistenceError, ModelError) as error:
                logger.warning("Run %s is not remembered: %s", run.prompt_id, error)
            finally:
                self._service.end_writing(key)

        run_soon(remember)

    def _record(self, head: Head, run: Run, state: SessionState) -> Sequence[tuple[Message, str]]:
        """Keep the run's messages as episodes, and return them with their texts."""
        identity = self._service.identity(state.key)
        said = [
            (message, text)
            for message in self._messages(head, run)
            if isinstance(message, UserMessage | AssistantMessage)
            and (text := text_of(message.content)).strip()
        ]
        episodes = [
            Episode(
                message.timestamp,
                state.key,
                state.session_id,
                _role(message),
                text,
                principal=run.principal,
            )
            for message, text in said
        ]
        if episodes:
            self._service.note(identity, *episodes)
            self._service.settle_notes(identity)
        return said

    def _write(self, run: Run, state: SessionState, said: Sequence[tuple[Message, str]]) -> None:
        """Ask the session's model what is worth remembering, and remember that."""
        model = self._models.find(state.model)
        asked = [text for message, text in said if isinstance(message, UserMessage)]
        answers = [text for message, text in said if isinstance(message, AssistantMessage)]
        if not model.remembers or not asked or not answers:
            return
        answer = worth_remembering(
            model,
            asked[-1],
            answers[-1],
            tokens_max=self._settings().memory_writer_tokens_max,
            timers=self._timers,
        )
        identity = self._service.identity(state.key)
        for command in memories_in(answer, at=self._now_ms(), principal=run.principal):
            self._service.remember(identity, command)

    def _messages(self, head: Head, run: Run) -> list[Message]:
        stored = self._log.read(
            head, after=run.started_seq, limit=RUN_MESSAGES_MAX, newest_first=True, paged=True
        )
        messages = [message_of(decode(head.stream_id, each)) for each in stored]
        return [message for message in reversed(messages) if message is not None]


def _last_user_text(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            return text_of(message.content)
    return ""


def _role(message: Message) -> str:
    return "user" if isinstance(message, UserMessage) else "assistant"
