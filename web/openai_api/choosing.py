"""Which session a request means, and how that becomes ready for its prompt."""

import contextlib
import itertools
import uuid
from hashlib import sha256
from typing import Literal

import falcon
from msgspec import Struct

from actors.errors import SessionNotFound
from actors.replay import STREAM_PREFIX, decode, stream_of
from actors.session import commands as c
from actors.session import events as e
from actors.session.decide import accepted_before
from actors.session.messages import Message
from actors.session.rejections import SessionExists
from actors.session.state import ModelRef, SessionState
from web.asked import asked
from web.bootstrap import Gateway
from web.errors import Problem
from web.keys import KEY_CHARACTERS_MAX, checked_key
from web.openai_api.conversation import Conversation, goes_on
from web.openai_api.errors import no_model
from web.openai_api.inputs import ANY_MODEL, OpenAIHeaders
from web.tokens import Access

SOURCE = "openai"
NEWEST_MAX = 64
BRANCHES_MAX = 100
BRANCHES_READ_MAX = 10
DIGEST_CHARACTERS = 32

Kind = Literal["named", "chat", "once"]


class Choice(Struct, frozen=True):
    """A session: one that its caller ``named``, a client's ``chat``, or one for this request.

    What a named one holds counts; a chat is what its client shows of it.
    """

    key: str
    kind: Kind


class Prepared(Struct, frozen=True):
    """A session that is ready for the prompt, and the model that will answer it."""

    key: str
    model: ModelRef

    @property
    def model_name(self) -> str:
        """Return the model as clients name it."""
        return f"{self.model.provider}/{self.model.model_id}"


def choice_of(request: falcon.Request, user: str | None, *, task: bool) -> Choice:
    """Return the session that a request means. Raises Problem 400, or SessionNotFound.

    A client's own ``task`` about a chat, as a title for it, is no part of what the chat's
    user says, and may come before that: it never is in the chat's session.
    """
    access: Access = request.context.access
    headers: OpenAIHeaders = request.context.headers
    if headers.session_key:
        return Choice(_visible(_decoded(headers.session_key), access), "named")
    if headers.chat_id and not (task or headers.task):
        return Choice(_below(access, "chat", _decoded(headers.chat_id)), "chat")
    if user and not (headers.chat_id or headers.task):
        return Choice(_below(access, "user", user), "named")
    return Choice(_below(access, "once", _once(request)), "once")


def named(request: falcon.Request, key: str) -> Choice:
    """Return a session by its key. Raises SessionNotFound where the token may not see it."""
    return Choice(_visible(key, request.context.access), "named")


def prepare(
    gateway: Gateway,
    request: falcon.Request,
    choice: Choice,
    conversation: Conversation,
    model: str,
) -> Prepared:
    """Have the session there with what was said before, and with the model that is wanted.

    An empty session begins with the client's messages. A chat's session that does not end as
    the client shows it stays as it is: the chat goes on in a session beside it. A repeat of a
    request changes nothing. Blocks until it is durable. Raises Refused 404 for the model.
    """
    registry = gateway.registry
    wanted = _model_of(gateway, model)
    key = choice.key
    state = _existing(gateway, key)
    repeated = _is_repeated(request, state)
    if choice.kind == "chat" and not repeated and not _fits(gateway, state, conversation):
        key = _branch(gateway, request, key, conversation) or _aside(key, _once(request))
        state = _existing(gateway, key)
        repeated = _is_repeated(request, state)
    if not repeated:
        if state is None or _is_empty(state):
            _begin(gateway, request, key, conversation)
            state = registry.state(key)
        if wanted not in (None, registry.models.resolve(state.model)):
            assert wanted is not None
            at = registry.now_ms()
            selected = c.SelectModel(at, wanted.provider, wanted.model_id, **asked(request))
            registry.ask(key, selected)
            return Prepared(key, wanted)
    assert state is not None
    return Prepared(key, registry.models.resolve(state.model))


def _model_of(gateway: Gateway, name: str) -> ModelRef | None:
    """Return the model of that name, None for whichever the session has."""
    if name == ANY_MODEL:
        return None
    provider, _, model_id = name.partition("/")
    ref = ModelRef(provider, model_id)
    if not model_id or not gateway.registry.models.has(ref):
        raise no_model(name)
    return ref


def _existing(gateway: Gateway, key: str) -> SessionState | None:
    with contextlib.suppress(SessionNotFound):
        return gateway.registry.state(key)
    return None


def _is_empty(state: SessionState) -> bool:
    return state.message_count == 0 and state.idle


def _is_repeated(request: falcon.Request, state: SessionState | None) -> bool:
    key = request.context.headers.key
    return state is not None and accepted_before(state, key or "") is not None


def _fits(gateway: Gateway, state: SessionState | None, conversation: Conversation) -> bool:
    if state is None or _is_empty(state):
        return True
    running = state.run is not None
    return goes_on(_newest(gateway, state), conversation.earlier, running=running)


def _branch(
    gateway: Gateway, request: falcon.Request, key: str, conversation: Conversation
) -> str | None:
    """Return the newest session beside a chat's that is where its client is, None for none."""
    if not conversation.earlier:
        return None
    entries = gateway.log.entries(
        after_row=0, limit=BRANCHES_MAX, prefix=stream_of(_aside(key, "")), active=None
    )
    for entry in list(reversed(entries))[:BRANCHES_READ_MAX]:
        branch = entry.stream_id.removeprefix(STREAM_PREFIX)
        state = _existing(gateway, branch)
        if _is_repeated(request, state) or _fits(gateway, state, conversation):
            return branch
    return None


def _newest(gateway: Gateway, state: SessionState) -> list[Message]:
    """Return a session's newest messages, the oldest of them first, without erased ones."""
    stream_id = stream_of(state.key)
    head = gateway.log.head(stream_id)
    assert head is not None
    stored = gateway.log.read(
        head,
        after=state.first_seq,
        before=state.version + 1,
        limit=NEWEST_MAX,
        newest_first=True,
        paged=True,
    )
    events = [decode(stream_id, each) for each in itertools.islice(stored, NEWEST_MAX)]
    return [each.message for each in reversed(events) if isinstance(each, e.MessageCompleted)]


def _begin(gateway: Gateway, request: falcon.Request, key: str, conversation: Conversation) -> None:
    at = gateway.registry.now_ms()
    messages = conversation.beginning(at)
    session_id = str(uuid.uuid4())
    if not messages:
        gateway.registry.ask(key, c.CreateSession(at, session_id, **asked(request)))
        return
    with contextlib.suppress(SessionExists):  # another request was faster
        begin = c.BeginFrom(at, session_id, SOURCE, messages, **asked(request))
        gateway.registry.ask(key, begin)


def _visible(key: str, access: Access) -> str:
    if not access.sees(checked_key(key)):
        raise SessionNotFound(key)
    return key


def _below(access: Access, kind: str, name: str) -> str:
    """Return a key that the request's token may see: with the name, or its digest."""
    prefix = f"{access.key_prefix}openai:{kind}:"
    with contextlib.suppress(Problem):
        return checked_key(prefix + name)
    return checked_key(prefix + _digest(name))


def _aside(key: str, name: str) -> str:
    aside = f"{key}~{name}"
    if len(aside) <= KEY_CHARACTERS_MAX:
        return aside
    return f"{key[: KEY_CHARACTERS_MAX - DIGEST_CHARACTERS - 1]}~{_digest(aside)}"


def _once(request: falcon.Request) -> str:
    """Return a name for this request alone, the same where it is made again by its key."""
    key: str | None = request.context.headers.key
    if key is None:
        return uuid.uuid4().hex
    return _digest(f"{request.context.access.principal}\n{key}")


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def _decoded(header: str) -> str:
    """Return a header as its client means it: WSGI hands over bytes as Latin-1."""
    return header.encode("latin-1", "replace").decode("utf-8", "replace")
