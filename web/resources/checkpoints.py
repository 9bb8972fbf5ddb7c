"""Signed checkpoints, and what they prove."""

import re
from base64 import b64encode
from typing import Annotated

import falcon
from msgspec import UNSET, Meta, Struct, UnsetType, field

from actors.audit.signing import notes
from actors.audit.signing.proofs import SignedCheckpoint
from actors.audit.signing.signer import check_rotation
from actors.errors import SessionNotFound
from actors.gateway_state import UsedKey
from actors.replay import stream_of
from persistence.errors import ProofError
from web.asked import asked
from web.errors import Problem
from web.inputs import Count
from web.operations import AUDIT, PLAIN_TEXT, Refusable, operation
from web.resources.base import Resource
from web.schemas import body_of

PAGE_CHECKPOINTS = 100
PAGE_CHECKPOINTS_MAX = 1_000
SIGNATURE_CHARACTERS_MAX = 1_000
NOTE_TYPE = f"{PLAIN_TEXT}; charset=utf-8"
NONE_YET = "No checkpoint has been signed yet: POST /audit/checkpoints signs one."

_SIZE = re.compile(r"[1-9][0-9]{0,17}")

Size = Annotated[int, Meta(ge=0, le=10**18 - 1)]


class CheckpointsQuery(Refusable, frozen=True):
    """Checkpoints of sizes below ``before``, the newest first."""

    before: Count | None = None
    limit: Count | None = None


class ConsistencyQuery(Refusable, frozen=True):
    """From the size of an older tree to that of a newer one, by default the latest."""

    old: Size = field(name="from", default=0)
    new: Size | None = field(name="to", default=None)


class CosignatureBody(Refusable, frozen=True):
    """A witness's signature line, as C2SP's tlog-cosignature has it."""

    signature: Annotated[str, Meta(min_length=1, max_length=SIGNATURE_CHARACTERS_MAX)]


class ListedCheckpoint(Struct, frozen=True):
    """A checkpoint: its tree's size and root, in hexadecimal, and by how many leaves it grew."""

    size: int
    root: str
    leaves: int
    at: int


class CheckpointList(Struct, frozen=True, rename="camel"):
    """Checkpoints, the newest first; ``nextBefore`` is the ``before`` of the next page."""

    checkpoints: list[ListedCheckpoint]
    next_before: int | UnsetType = UNSET


class SignedNow(Struct, frozen=True):
    """The latest checkpoint, and whether it was signed now: nothing may have moved since."""

    ok: bool
    signed: bool
    checkpoint: ListedCheckpoint | None
    note: str


class Consistency(Struct, frozen=True):
    """That a tree begins with all leaves of an older one; hashes in base64, as witnesses take."""

    old: int = field(name="from")
    new: int = field(name="to")
    proof: list[str]


class ProvenLeaf(Struct, frozen=True):
    """A stream's newest leaf: its index in the tree, and the seq and hash of the event."""

    index: int
    version: int
    hash: str


class SessionProof(Struct, frozen=True, rename="camel"):
    """That a session's events up to the leaf's version are those that were signed.

    ``checkpoint`` is the signed note, ``inclusion`` the leaf's audit path, in hexadecimal.
    """

    session_key: str
    stream: str
    checkpoint: str
    leaf: ProvenLeaf
    inclusion: list[str]
    keys: list[str]


class Cosigned(Struct, frozen=True):
    """Whether the cosignature was not there before."""

    ok: bool
    added: bool


class ShownKey(Struct, frozen=True, rename="camel"):
    """A key that has signed checkpoints.

    ``replaces`` is the key before it where both have signed the ``statement`` that says so.
    """

    verifier_key: str
    introduced_at: int
    replaces: str | UnsetType = UNSET
    statement: str | UnsetType = UNSET


class KeyList(Struct, frozen=True):
    """The keys of all checkpoints, the newest last, and those of the configured witnesses."""

    keys: list[ShownKey]
    witnesses: list[str]


class CheckpointsResource(Resource):
    """GET and POST /audit/checkpoints."""

    @operation(AUDIT, {200: CheckpointList}, query=CheckpointsQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of checkpoints."""
        query: CheckpointsQuery = request.context.query
        limit = min(query.limit or PAGE_CHECKPOINTS, PAGE_CHECKPOINTS_MAX)
        found = self._gateway.checkpoints.page(query.before, limit)
        further = found[-1].size if len(found) == limit else UNSET
        response.data = body_of(CheckpointList([_listed(each) for each in found], further))

    @operation(AUDIT, {200: SignedNow}, errors=(409,))
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Sign where all streams end now; where none has moved, show the latest checkpoint."""
        refuse_bound(request)
        checkpoints = self._gateway.checkpoints
        signed = checkpoints.sign_now(**asked(request))
        latest = checkpoints.latest()
        listed = None if latest is None else _listed(latest)
        note = "" if latest is None else latest.note
        response.data = body_of(SignedNow(True, signed is not None, listed, note))  # noqa: FBT003 - as the answer has it


class LatestCheckpointResource(Resource):
    """GET /audit/checkpoints/latest."""

    @operation(AUDIT, {200: PLAIN_TEXT}, errors=(404,))
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the latest checkpoint as a signed note, cosignatures included."""
        latest = self._gateway.checkpoints.latest()
        if latest is None:
            raise Problem(404, NONE_YET)
        _show_note(response, latest)


class CheckpointResource(Resource):
    """GET /audit/checkpoints/<size>."""

    @operation(AUDIT, {200: PLAIN_TEXT}, errors=(404,))
    def on_get(self, _request: falcon.Request, response: falcon.Response, size: str) -> None:
        """Answer with the checkpoint of that size as a signed note, cosignatures included."""
        found = self._gateway.checkpoints.at(_size_of(size))
        if found is None:
            raise _no_checkpoint(size)
        _show_note(response, found)


class CosignaturesResource(Resource):
    """POST /audit/checkpoints/<size>/cosignatures."""

    @operation(AUDIT, {200: Cosigned}, body=CosignatureBody, errors=(404, 409))
    def on_post(self, request: falcon.Request, response: falcon.Response, size: str) -> None:
        """Keep a witness's signature with a checkpoint, once; one that is none is 422."""
        refuse_bound(request)
        gateway, body = self._gateway, request.context.body
        keys = [notes.parse_verifier_key(each) for each in gateway.settings.witnesses]
        line = body.signature.rstrip("\n")
        try:
            added = gateway.checkpoints.cosign(_size_of(size), line, keys, **asked(request))
        except ProofError as error:
            raise Problem(422, str(error)) from error
        if added is None:
            raise _no_checkpoint(size)
        response.data = body_of(Cosigned(ok=True, added=added))


class ConsistencyResource(Resource):
    """GET /audit/consistency."""

    @operation(AUDIT, {200: Consistency}, query=ConsistencyQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Prove that a checkpoint's tree begins with all leaves of an older one's."""
        query: ConsistencyQuery = request.context.query
        checkpoints = self._gateway.checkpoints
        new = query.new
        if new is None:
            latest = checkpoints.latest()
            new = 0 if latest is None else latest.size
        try:
            proof = checkpoints.consistency(query.old, new)
        except ProofError as error:
            raise Problem(404, str(error)) from error
        shown = [b64encode(each).decode() for each in proof]
        response.data = body_of(Consistency(query.old, new, shown))


class ProofResource(Resource):
    """GET /sessions/<key>/audit/proof."""

    @operation(AUDIT, {200: SessionProof})
    def on_get(self, _request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prove that a session's events are those that the latest checkpoint has signed."""
        gateway, stream = self._gateway, stream_of(key)
        if gateway.log.head(stream) is None:
            raise SessionNotFound(key)
        proof = gateway.checkpoints.proof(stream)
        if proof is None:
            raise Problem(404, "No checkpoint has this session yet: POST /audit/checkpoints.")
        gateway.admin.refresh()
        leaf = ProvenLeaf(proof.index, proof.version, proof.hash.hex())
        shown = SessionProof(
            key,
            stream,
            proof.checkpoint,
            leaf,
            [each.hex() for each in proof.inclusion],
            [each.verifier_key for each in gateway.admin.signing_keys],
        )
        response.data = body_of(shown)


class KeysResource(Resource):
    """GET /audit/keys."""

    @operation(AUDIT, {200: KeyList})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the keys that checkpoints are verified by."""
        self._gateway.admin.refresh()
        shown = [shown_key(each) for each in self._gateway.admin.signing_keys]
        response.data = body_of(KeyList(shown, list(self._gateway.settings.witnesses)))


def shown_key(used: UsedKey) -> ShownKey:
    """Return what is told of a key; what ties it to another one only where that holds."""
    if not check_rotation(used):
        return ShownKey(used.verifier_key, used.at)
    return ShownKey(used.verifier_key, used.at, used.replaced, used.statement)


def _listed(checkpoint: SignedCheckpoint) -> ListedCheckpoint:
    return ListedCheckpoint(
        checkpoint.size, checkpoint.root.hex(), checkpoint.leaves, checkpoint.at
    )


def _show_note(response: falcon.Response, checkpoint: SignedCheckpoint) -> None:
    response.content_type = NOTE_TYPE
    response.data = checkpoint.note.encode()


def _size_of(text: str) -> int:
    if not _SIZE.fullmatch(text):
        raise _no_checkpoint(text)
    return int(text)


def _no_checkpoint(size: str) -> Problem:
    return Problem(
        404, f"There is no checkpoint of size {size}: GET /audit/checkpoints lists them."
    )


def refuse_bound(request: falcon.Request) -> None:
    """Refuse a token that is for some sessions only what concerns them all."""
    prefix = request.context.access.key_prefix
    if prefix:
        raise Problem(403, f"This token is for the sessions {prefix}… only.")
