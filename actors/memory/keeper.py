"""Memory's part in a run: recalled before each model call, written after the run."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from actors.memory.identity import Identity
from actors.memory.recall import Recalled
from actors.memory.rules import Episode, Recall
from actors.memory.service import MemoryService, MemorySettings
from actors.memory.writer import memories_in, worth_remembering
from actors.models.base import Model, ModelError
from actors.models.catalog import ModelCatalog
from actors.replay import decode
from actors.runs.conversation import EndedRun, message_of
from actors.runs.tracing import NO_TRACER, Tracer
from actors.session.messages import AssistantMessage, Message, UserMessage, text_of
from actors.session.state import Run
from actors.timers import Timers
from persistence.errors import PersistenceError
from persistence.event_log import EventLog
from persistence.native import run_soon

GATHER_S = 0.05
"""How long runs that are over wait for others, so that many are kept in one append."""

RUN_MESSAGES_MAX = 200
USER = "user"
ASSISTANT = "assistant"

Said = tuple[str, str, int]
"""Role, text, time in milliseconds."""

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
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._service = service
        self._log = log
        self._models = models
        self._timers = timers
        self._settings = settings
        self._now_ms = now_ms
        self._tracer = tracer
        self._ended: list[EndedRun] = []
        self._lock = threading.Lock()

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

    def run_ended(self, ended: EndedRun) -> None:
        """Remember a run that is over, soon, together with others; does not block.

        What was said is kept as episodes. Of a run that completed the session's model is asked
        what is worth remembering.
        """
        if not self._service.enabled:
            return
        self._service.begin(ended.state.key)
        with self._lock:
            self._ended.append(ended)
            if len(self._ended) > 1:  # the timer runs already
                return
        self._timers.after(GATHER_S, lambda: run_soon(self._remember))

    def _remember(self) -> None:
        with self._lock:
            gathered, self._ended = self._ended, []
        by_memory: dict[Identity, list[EndedRun]] = {}
        for ended in gathered:
            by_memory.setdefault(self._service.identity(ended.state.key), []).append(ended)
        for identity, runs in by_memory.items():
            self._keep(identity, runs)

    def _keep(self, identity: Identity, runs: Sequence[EndedRun]) -> None:
        """Keep what was said in runs as episodes, in one append; then have their models add."""
        said: list[list[Said]] = [[] for _ in runs]
        try:
            said = [self._said(ended) for ended in runs]
            episodes = [
                Episode(
                    at,
                    ended.state.key,
                    ended.state.session_id,
                    role,
                    text,
                    principal=ended.run.principal,
                )
                for ended, texts in zip(runs, said, strict=True)
                for role, text, at in texts
            ]
            if episodes:
                self._service.note(identity, *episodes)
                self._service.settle_notes(identity)
        except PersistenceError:
            logger.exception("%s runs are not remembered.", len(runs))
        self._service.kept(identity, len(runs))
        for ended, texts in zip(runs, said, strict=True):
            if ended.completed and self._settings().memory_writer_enabled:
                run_soon(partial(self._write, ended, texts))
            else:
                self._service.end(ended.state.key)

    def _write(self, ended: EndedRun, texts: Sequence[Said]) -> None:
        """Ask the session's model what is worth remembering, and remember that."""
        key, run = ended.state.key, ended.run
        try:
            found = self._models.find(ended.state.model)
            model = self._tracer.run(ended.state, run).model(found)
            asked = [text for role, text, _at in texts if role == USER]
            answers = [text for role, text, _at in texts if role == ASSISTANT]
            if not model.remembers or not asked or not answers:
                return
            answer = worth_remembering(
                model,
                asked[-1],
                answers[-1],
                tokens_max=self._settings().memory_writer_tokens_max,
                timers=self._timers,
            )
            identity = self._service.identity(key)
            if self._is_erased(ended):
                return
            for command in memories_in(answer, at=self._now_ms(), principal=run.principal):
                learnt = replace(command, session_key=key, prompt_id=run.prompt_id)
                self._service.remember(identity, learnt)
        except (PersistenceError, ModelError) as error:
            logger.warning("Nothing is remembered of run %s: %s", run.prompt_id, error)
        finally:
            self._service.end(key)

    def _said(self, ended: EndedRun) -> list[Said]:
        """Return what people and models said in a run, in order."""
        recent, head = ended.recent, ended.head
        if self._is_erased(ended):
            return []
        messages = list(recent.newest_first())
        if recent.since > ended.run.started_seq:
            older = self._log.read(
                head,
                after=ended.run.started_seq,
                before=recent.since + 1,
                limit=RUN_MESSAGES_MAX,
                newest_first=True,
                paged=True,
            )
            read = [message_of(decode(head.stream_id, each)) for each in older]
            messages.extend(message for message in read if message is not None)
        return [
            (USER if isinstance(message, UserMessage) else ASSISTANT, text, message.timestamp)
            for message in reversed(messages)
            if isinstance(message, UserMessage | AssistantMessage)
            and (text := text_of(message.content)).strip()
        ]

    def _is_erased(self, ended: EndedRun) -> bool:
        """Tell whether the run has been erased since."""
        started = ended.run.started_seq
        return any(
            each.payload is None
            for each in self._log.read(ended.head, after=started - 1, before=started + 1)
        )


def _last_user_text(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            return text_of(message.content)
    return ""
