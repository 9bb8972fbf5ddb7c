"""Erasing what was said: in a session's stream, in memories, in files, and in what lies beside."""

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from actors.audit.erasing.copies import Copies, Part
from actors.audit.erasing.survey import Survey, left_after, survey
from actors.errors import SessionNotFound
from actors.memory.erasing import ErasedMemories
from actors.memory.rules import EraseMemories, Origin
from actors.memory.service import MemoryService
from actors.registry import SessionRegistry
from actors.replay import decode, stream_of
from actors.session import commands as c
from actors.session.events import Request
from actors.session.record_events import StreamErased
from actors.session.rejections import SessionMoved
from actors.tools.toolbox import folder_in
from persistence.event_log import EventLog
from persistence.records import Head, StoredEvent

ATTEMPTS_MAX = 3
OWNER_S = 0.5
SCRUBS_MAX = 5
SCRUB_AGAIN_S = 0.1
FILES_LEFT = "files of the session's workspace: delete them by hand"
TRACES_LEFT = (
    "copies in the database's own files: SQLite drops them soon, PostgreSQL with the next VACUUM"
)

Range = tuple[int, int]


class Receipt(Struct, frozen=True, rename="camel"):
    """What an erasure did. ``bytes`` counts payloads; the seq and hash are of its event.

    ``forks`` are sessions that copied from this one, ``not_yet`` what is still to be done.
    """

    receipt_id: str
    session_key: str
    session_id: str
    reason: str
    at: int
    principal: str
    ranges: tuple[Range, ...]
    payloads: int
    bytes: int
    memories: int
    episodes: int
    files: int
    forks: tuple[str, ...]
    seq: int
    hash: str
    not_yet: tuple[str, ...]


class Asker(Struct, frozen=True):
    """Who wants something erased, why, and by which request."""

    reason: str
    principal: str = c.GATEWAY
    request: Request | None = None


class Eraser:
    """Erases sessions, whole or in part. Methods block while that lasts.

    ``scrub`` empties what lies beside the database and tells whether it could; ``shared`` tells
    whether other processes may own sessions. They raise SessionNotFound, Rejection or
    PersistenceError.
    """

    def __init__(
        self,
        log: EventLog,
        registry: SessionRegistry,
        memory: MemoryService,
        workspaces: Path,
        scrub: Callable[[], bool],
        primary: Callable[[], str],
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        self._log = log
        self._registry = registry
        self._memory = memory
        self._workspaces = workspaces
        self._scrub = scrub
        self._primary = primary
        self._lock = threading.Lock()

    def erase_session(self, key: str, asker: Asker) -> Receipt:
        """Erase all that was ever said under a key; what runs ends. Harmless when repeated."""
        head = self._head(key)
        found = survey(self._log, head)
        command = c.EraseSession(
            self._registry.now_ms(),
            str(uuid.uuid4()),
            asker.reason,
            found.earlier,
            str(uuid.uuid4()) if key == self._primary() else "",
            principal=asker.principal,
            request=asker.request,
        )
        seq = self._registry.ask(key, command)
        if not seq:  # nothing was said since it was erased
            found = replace(found, seqs=(), sizes=())
        memories = self._erase_memories(key, command.receipt_id, asker, Origin(key))
        folders = [each for each in found.session_ids if each]
        files = sum([self._erase_files(each) for each in folders])
        return self._receipt(key, seq, command.receipt_id, asker, found, memories, files, folders)

    def erase_part(self, key: str, wanted: Range, asker: Asker) -> Receipt:
        """Erase a range of a session's events, and whatever says the same again."""
        for _attempt in range(ATTEMPTS_MAX - 1):
            try:
                return self._erase_part(key, wanted, asker)
            except SessionMoved:
                continue
        return self._erase_part(key, wanted, asker)

    def _erase_part(self, key: str, wanted: Range, asker: Asker) -> Receipt:
        state = self._registry.state(key)
        head = self._head(key)
        copies = Copies()
        found = survey(self._log, head, copies)
        part = copies.part((wanted[0], min(wanted[1], head.version)))
        command = c.ErasePart(
            self._registry.now_ms(),
            str(uuid.uuid4()),
            asker.reason,
            part.ranges,
            left_after(self._log, head, state, part),
            head.version,
            found.earlier,
            principal=asker.principal,
            request=asker.request,
        )
        seq = self._registry.ask(key, command)
        memories = self._erase_memories(key, command.receipt_id, asker, _origin_of(key, part))
        within = found.within(part.ranges)
        return self._receipt(key, seq, command.receipt_id, asker, within, memories)

    def _head(self, key: str) -> Head:
        head = self._log.head(stream_of(key))
        if head is None or not head.version:
            raise SessionNotFound(key)
        return head

    def _erase_memories(
        self, key: str, receipt_id: str, asker: Asker, origin: Origin
    ) -> ErasedMemories:
        """Erase what was learnt; what a run that is over still adds is waited for."""
        self._memory.settle(key)
        command = EraseMemories(
            self._registry.now_ms(),
            receipt_id,
            asker.reason,
            origin,
            principal=asker.principal,
            request=asker.request,
        )
        identity = self._memory.identity(key)
        erased = self._memory.erase(identity, command)
        if self._shared:  # the session's owner may have been about to remember it
            time.sleep(OWNER_S)
            later = replace(command, at=command.at + int(OWNER_S * 1_000))
            erased = erased.and_also(self._memory.erase(identity, later))
        return erased

    def _erase_files(self, workspace_id: str) -> int:
        folder = folder_in(self._workspaces, workspace_id)
        if not folder.is_dir():
            return 0
        count = sum(1 for each in folder.rglob("*") if not each.is_dir())
        shutil.rmtree(folder, ignore_errors=True)
        return count

    def _receipt(
        self,
        key: str,
        seq: int,
        receipt_id: str,
        asker: Asker,
        found: Survey,
        memories: ErasedMemories,
        files: int = 0,
        folders: Sequence[str] = (),
    ) -> Receipt:
        stored, event = self._recorded(key, seq, receipt_id)
        not_yet = []
        if any(folder_in(self._workspaces, each).exists() for each in folders):
            not_yet.append(FILES_LEFT)
        if not self.scrub():
            not_yet.append(TRACES_LEFT)
        return Receipt(
            event.receipt_id,
            key,
            found.session_id,
            event.reason,
            event.at,
            asker.principal,
            event.ranges,
            found.payloads + memories.payloads,
            found.bytes + memories.bytes,
            memories.memories,
            memories.episodes,
            files,
            found.forks,
            stored.seq,
            stored.hash.hex(),
            tuple(not_yet),
        )

    def _recorded(self, key: str, seq: int, receipt_id: str) -> tuple[StoredEvent, StreamErased]:
        """Return the event of an erasure, or the newest one where there was nothing to erase."""
        head = self._head(key)
        for stored in self._log.read(head, after=max(0, seq - 1), newest_first=seq == 0):
            if stored.type == StreamErased.wire_name:
                event = decode(head.stream_id, stored)
                if isinstance(event, StreamErased) and (not seq or event.receipt_id == receipt_id):
                    return stored, event
        raise SessionNotFound(key)

    def scrub(self) -> bool:
        """Have what was erased leave the database's own files; tell whether it has."""
        with self._lock:
            for attempt in range(SCRUBS_MAX):
                if attempt:
                    time.sleep(SCRUB_AGAIN_S)
                if self._scrub():
                    return True
        return False


def _origin_of(key: str, part: Part) -> Origin:
    said = frozenset([(each.role, each.at) for each in part.said if each.role])
    return Origin(key, said, frozenset([each.prompt_id for each in part.said if each.prompt_id]))
