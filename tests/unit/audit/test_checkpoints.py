import threading
from collections.abc import Iterator

import msgspec
import pytest

from actors.audit.signing.anchoring import check_tables, rebuilt
from actors.audit.signing.checkpoints import COSIGNED_WITHIN_EVENTS
from actors.audit.signing.events import CODEC, STREAM, CheckpointSigned
from actors.audit.signing.notes import (
    COSIGNATURE,
    SIGNATURES_MAX,
    Checkpoint,
    Signature,
    VerifierKey,
    cosigned_message,
    parse_checkpoint,
    parse_note,
    verify_checkpoint,
    verify_note,
)
from actors.audit.signing.proofs import SignedCheckpoint, check_proof
from actors.audit.signing.signer import (
    LEAVES_MAX,
    CosignedTooLate,
    NoSigningKey,
    UnknownWitness,
    check_rotation,
)
from actors.audit.verifying.vouching import tree_damage
from actors.gateway_state import STREAM as GATEWAY_STREAM
from actors.session.events import Request
from persistence.errors import CorruptLogError, ProofError
from persistence.in_memory import InMemoryEventLog, InMemoryTree
from persistence.merkle import verify_consistency
from tests.unit.audit.signed_log import SignedLog, new_key


@pytest.fixture
def signed() -> Iterator[SignedLog]:
    made = SignedLog()
    yield made
    made.close()


def sign(signed: SignedLog) -> SignedCheckpoint:
    checkpoint = signed.signer.sign_now()
    assert checkpoint is not None
    return checkpoint


def said_by(signed: SignedLog, checkpoint: SignedCheckpoint) -> Checkpoint:
    return verify_checkpoint(checkpoint.note, signed.public_keys)


def events_of(signed: SignedLog, stream_id: str) -> list[str]:
    head = signed.log.head(stream_id)
    return [] if head is None else [each.type for each in signed.log.read(head)]


class Witness:
    """A witness of any name, with a key of its own."""

    def __init__(self, name: str = "witness.example/w1") -> None:
        self.signing = new_key()
        self.key = VerifierKey(name, COSIGNATURE, self.signing.public_key)

    def cosign(self, note: str, time_s: int = 1_790_000_000) -> str:
        signed = self.signing.sign("", cosigned_message(time_s, parse_note(note).text).decode())
        content = time_s.to_bytes(8) + signed.content
        return str(Signature(self.key.name, self.key.id, content))


def test_the_first_checkpoint_introduces_its_key_and_covers_every_stream(
    signed: SignedLog,
) -> None:
    signed.append("session:a", 3)
    signed.append("memory:b")
    checkpoint = sign(signed)
    said = said_by(signed, checkpoint)
    assert said == Checkpoint(signed.keys[0].origin, 3, checkpoint.root)
    assert events_of(signed, GATEWAY_STREAM) == ["signing_key.introduced"]
    for stream_id in ("session:a", "memory:b", GATEWAY_STREAM):
        proof, head = signed.signer.proof(stream_id), signed.log.head(stream_id)
        assert proof is not None
        assert head is not None
        assert (proof.version, proof.hash) == (head.version, head.hash)
        check_proof(stream_id, proof, signed.public_keys)


def test_nothing_is_signed_again_because_of_the_checkpoint_itself(signed: SignedLog) -> None:
    signed.append("session:a")
    first = sign(signed)
    assert signed.signer.sign_now() is None
    assert signed.signer.latest() == first
    signed.append("session:a")
    second = sign(signed)
    assert second.leaves == 2  # the session, and the stream of the checkpoints
    assert signed.signer.proof(STREAM) is not None


def test_without_anything_to_sign_no_key_is_introduced(signed: SignedLog) -> None:
    assert signed.signer.sign_now() is None
    assert signed.signer.latest() is None
    assert signed.known == ()


def test_who_asked_for_a_checkpoint_is_in_the_log(signed: SignedLog) -> None:
    signed.append("session:a")
    signed.signer.sign_now("token:auditor", Request("r1", "t1"))
    head = signed.log.head(STREAM)
    assert head is not None
    (stored,) = signed.log.read(head)
    assert stored.principal == "token:auditor"
    assert stored.payload is not None
    event = CODEC.decode(stored.type, stored.schema_version, stored.payload)
    assert event.request == Request("r1", "t1")


def test_more_streams_than_fit_are_signed_by_several_checkpoints_in_a_row(
    signed: SignedLog,
) -> None:
    for number in range(LEAVES_MAX + 2):
        signed.append(f"session:{number}")
    latest = sign(signed)
    assert signed.signer.sign_now() is None
    sizes = [each.size for each in signed.signer.page(None, 10)]
    assert sizes == [latest.size, LEAVES_MAX]
    assert latest.size == LEAVES_MAX + 4  # the gateway's own stream, and the first checkpoint
    proof = signed.signer.proof(f"session:{LEAVES_MAX + 1}")
    assert proof is not None
    check_proof(f"session:{LEAVES_MAX + 1}", proof, signed.public_keys)


def test_every_checkpoint_is_found_by_its_size_and_in_pages(signed: SignedLog) -> None:
    witness, made = Witness(), []
    for number in range(20):
        signed.append("session:a")
        made.append(sign(signed))
        for each in made[-number % 3 :]:  # events of older checkpoints come in between
            signed.signer.cosign(each.size, witness.cosign(each.note), [witness.key])
    for each in made:
        found = signed.signer.at(each.size)
        assert found is not None
        assert (found.size, found.root, found.at) == (each.size, each.root, each.at)
        assert signed.signer.at(each.size + 1) is None or each.size == 2
    assert signed.signer.at(0) is None
    assert signed.signer.at(10**18) is None
    newest = made[::-1]
    assert [each.size for each in signed.signer.page(None, 5)] == [e.size for e in newest[:5]]
    before = newest[4].size
    assert [each.size for each in signed.signer.page(before, 50)] == [e.size for e in newest[5:]]


def test_any_two_checkpoints_are_consistent(signed: SignedLog) -> None:
    made = []
    for number in range(12):
        signed.append(f"session:{number % 5}")
        made.append(sign(signed))
    for new in made:
        for old in made:
            if old.size <= new.size:
                proof = signed.signer.consistency(old.size, new.size)
                verify_consistency(old.size, new.size, proof, old.root, new.root)
    with pytest.raises(ProofError, match=f"has {made[-1].size} leaves"):
        signed.signer.consistency(1, made[-1].size + 1)


def test_a_proof_is_of_what_was_signed_not_of_what_followed(signed: SignedLog) -> None:
    before = signed.append("session:a", 2)
    sign(signed)
    signed.append("session:a")
    signed.append("session:new")
    proof = signed.signer.proof("session:a")
    assert proof is not None
    assert (proof.version, proof.hash) == (2, before.hash)
    assert signed.signer.proof("session:new") is None
    assert signed.signer.proof("session:none") is None


def test_a_proof_holds_for_nothing_but_its_stream_event_and_log(signed: SignedLog) -> None:
    signed.append("session:a", 2)
    sign(signed)
    proof = signed.signer.proof("session:a")
    assert proof is not None
    change = msgspec.structs.replace
    keys = signed.public_keys
    for stream_id, changed in (
        ("session:b", proof),
        ("session:a", change(proof, version=1)),
        ("session:a", change(proof, hash=bytes(32))),
        ("session:a", change(proof, index=proof.index ^ 1)),
        ("session:a", change(proof, inclusion=proof.inclusion[:-1])),
        ("session:a", change(proof, checkpoint=proof.checkpoint.replace("\n2\n", "\n3\n"))),
    ):
        with pytest.raises(ProofError):
            check_proof(stream_id, changed, keys)
    with pytest.raises(ProofError, match="not signed by any"):
        check_proof("session:a", proof, [new_key().named(keys[0].name)])


def test_without_a_key_nothing_is_signed_and_the_refusal_says_what_to_do() -> None:
    signed = SignedLog(keys=[])
    signed.append("session:a")
    with pytest.raises(NoSigningKey, match="sessiond keys generate"):
        signed.signer.sign_now()
    signed.close()


def test_a_log_keeps_its_name_when_its_key_is_replaced_and_both_keys_say_so(
    signed: SignedLog,
) -> None:
    signed.append("session:a")
    origin = said_by(signed, sign(signed)).origin
    (old,) = signed.keys
    signed.keys = [new_key(), old]
    signed.append("session:a")
    both = sign(signed)
    assert said_by(signed, both).origin == origin
    first, second = signed.known
    assert set(verify_note(parse_note(both.note), signed.public_keys)) == set(signed.public_keys)
    assert second.replaced == first.verifier_key
    assert check_rotation(second)
    assert not check_rotation(first)
    assert not check_rotation(msgspec.structs.replace(second, replaced=second.verifier_key))
    signed.keys = signed.keys[:1]
    signed.append("session:a")
    alone = parse_note(sign(signed).note)
    assert [each.key_id for each in alone.signatures] == [signed.public_keys[1].id]
    assert len(signed.known) == 2


def test_a_new_key_is_introduced_also_where_no_stream_has_moved(signed: SignedLog) -> None:
    signed.append("session:a")
    sign(signed)
    (old,) = signed.keys
    signed.keys = [new_key(), old]
    both = sign(signed)
    assert check_rotation(signed.known[1])
    assert set(verify_note(parse_note(both.note), signed.public_keys)) == set(signed.public_keys)
    signed.keys = signed.keys[:1]
    assert signed.signer.sign_now() is None


def test_a_key_that_nothing_ties_to_the_old_one_is_introduced_as_new(signed: SignedLog) -> None:
    signed.append("session:a")
    sign(signed)
    signed.keys = [new_key()]
    signed.append("session:a")
    sign(signed)
    assert events_of(signed, GATEWAY_STREAM) == ["signing_key.introduced"] * 2
    assert not check_rotation(signed.known[1])


def test_a_configured_name_is_the_origin_of_the_log() -> None:
    signed = SignedLog(origin="log.example/agents")
    signed.append("session:a")
    assert said_by(signed, sign(signed)).origin == "log.example/agents"
    assert signed.known[0].verifier_key.startswith("log.example/agents+")
    signed.close()


def test_a_witness_cosigns_a_checkpoint_once(signed: SignedLog) -> None:
    witness, other = Witness(), Witness("witness.example/w2")
    signed.append("session:a")
    size, note = sign(signed).size, sign_note(signed)
    line = witness.cosign(note)
    assert signed.signer.cosign(size, line, [other.key, witness.key]) is True
    assert signed.signer.cosign(size, line, [other.key, witness.key]) is False
    assert signed.signer.cosign(size, other.cosign(note), [other.key]) is True
    latest = signed.signer.latest()
    assert latest is not None
    assert str(parse_note(latest.note).signatures[1]) == line
    keys = [*signed.public_keys, witness.key, other.key]
    assert len(verify_note(parse_note(latest.note), keys)) == 3
    assert signed.signer.sign_now() is None  # a cosignature is no reason to sign


def sign_note(signed: SignedLog) -> str:
    latest = signed.signer.latest()
    assert latest is not None
    return latest.note


def test_only_a_known_witness_can_cosign_and_only_what_it_has_signed(signed: SignedLog) -> None:
    witness = Witness()
    signed.append("session:a")
    sign(signed)
    older = sign_note(signed)
    signed.append("session:a")
    checkpoint = sign(signed)
    with pytest.raises(UnknownWitness):
        signed.signer.cosign(checkpoint.size, witness.cosign(checkpoint.note), [])
    with pytest.raises(UnknownWitness):  # the same name, another key
        signed.signer.cosign(checkpoint.size, Witness().cosign(checkpoint.note), [witness.key])
    with pytest.raises(ProofError, match="not one of this text"):
        signed.signer.cosign(checkpoint.size, witness.cosign(older), [witness.key])
    line = witness.cosign(checkpoint.note)
    assert signed.signer.cosign(checkpoint.size + 1, line, [witness.key]) is None
    assert len(parse_note(sign_note(signed)).signatures) == 1


def test_a_checkpoint_that_many_events_have_followed_is_not_cosigned_any_more(
    signed: SignedLog,
) -> None:
    first, second = Witness(), Witness("witness.example/w2")
    signed.append("session:a")
    checkpoint = sign(signed)
    for _ in range(COSIGNED_WITHIN_EVENTS - 1):
        signed.append("session:a")
        sign(signed)
    assert signed.signer.cosign(checkpoint.size, first.cosign(checkpoint.note), [first.key])
    found = signed.signer.at(checkpoint.size)
    assert found is not None
    assert len(parse_note(found.note).signatures) == 2
    with pytest.raises(CosignedTooLate):
        signed.signer.cosign(checkpoint.size, second.cosign(checkpoint.note), [second.key])


def test_a_checkpoint_has_as_many_signatures_as_can_be_read(signed: SignedLog) -> None:
    witnesses = [Witness(f"witness.example/{number}") for number in range(SIGNATURES_MAX)]
    keys = [each.key for each in witnesses]
    signed.append("session:a")
    checkpoint = sign(signed)
    for witness in witnesses[1:]:
        assert signed.signer.cosign(checkpoint.size, witness.cosign(checkpoint.note), keys)
    with pytest.raises(CosignedTooLate):
        signed.signer.cosign(checkpoint.size, witnesses[0].cosign(checkpoint.note), keys)
    assert len(parse_note(sign_note(signed)).signatures) == SIGNATURES_MAX


def test_processes_that_sign_at_once_make_one_tree() -> None:
    log = InMemoryEventLog()
    tree, key = InMemoryTree(log), new_key()
    several = [SignedLog(log, tree, keys=[key]) for _ in range(3)]
    for round_number in range(5):
        for number in range(4):
            several[0].append(f"session:{number}", 1 + round_number)
        threads = [threading.Thread(target=each.signer.sign_now) for each in several]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert check_tables(log, tree) == []
    assert several[0].signer.sign_now() is None
    (introduced,) = several[0].known
    latest = several[1].signer.latest()
    assert latest is not None
    assert parse_checkpoint(parse_note(latest.note).text).origin in introduced.verifier_key
    for each in several:
        each.close()


def test_a_timer_leaves_a_fresh_checkpoint_of_another_process_alone(signed: SignedLog) -> None:
    signed.append("session:a")
    signed.now_ms += 1_000
    signed.signer.sign_if_due(300)
    assert events_of(signed, STREAM) == ["checkpoint.signed"]
    signed.append("session:a")
    signed.now_ms += 149_000
    signed.signer.sign_if_due(300)
    assert events_of(signed, STREAM) == ["checkpoint.signed"]
    signed.now_ms += 1_000
    signed.signer.sign_if_due(300)
    assert events_of(signed, STREAM) == ["checkpoint.signed"] * 2
    signed.signer.close(1)
    signed.append("session:a")
    signed.now_ms += 300_000
    signed.signer.sign_if_due(300)
    assert events_of(signed, STREAM) == ["checkpoint.signed"] * 2


def test_the_tables_follow_from_the_log_alone(signed: SignedLog) -> None:
    for number in range(7):
        signed.append(f"session:{number % 3}", 2)
        sign(signed)
    tree = signed.tree
    leaves_count, nodes_count = tree.counts()
    remade = list(rebuilt(signed.log, tree))
    leaves = [leaf for some, _nodes in remade for leaf in some]
    nodes = {(node.level, node.index): node.hash for _leaves, some in remade for node in some}
    assert tree.leaves(0, leaves_count + 1) == leaves
    assert tree.nodes(list(nodes)) == nodes
    assert len(nodes) == nodes_count
    assert check_tables(signed.log, tree) == []


def test_a_tree_that_was_tampered_with_is_not_signed_on_but_made_anew(signed: SignedLog) -> None:
    signed.append("session:a")
    sign(signed)
    signed.append("session:a")
    log = signed.log
    assert isinstance(log, InMemoryEventLog)
    nodes, leaves = dict(log._nodes), list(log._leaves)
    log._nodes[1, 0] = bytes(32)
    with pytest.raises(CorruptLogError, match="not the one that was signed"):
        signed.signer.sign_now()
    (finding,) = check_tables(log, signed.tree)
    assert "node" in finding.problem
    log._nodes.clear()
    log._leaves.clear()
    with pytest.raises(CorruptLogError, match="not the one that was signed"):
        signed.signer.sign_now()
    assert signed.signer.rebuild() == len(leaves)
    assert (log._nodes, log._leaves) == (nodes, leaves)
    sign(signed)
    assert check_tables(log, signed.tree) == []
    assert tree_damage(log, signed.tree) == []
    log._nodes[9, 9] = bytes(32)
    (finding,) = tree_damage(log, signed.tree)
    assert "nodes above" in finding.problem


def test_a_checkpoint_costs_as_many_bytes_as_it_has_to(signed: SignedLog) -> None:
    signed.append("session:a")
    sign(signed)
    head = signed.log.head(STREAM)
    assert head is not None
    (stored,) = signed.log.read(head)
    assert stored.payload is not None
    event = CODEC.decode(stored.type, stored.schema_version, stored.payload)
    assert isinstance(event, CheckpointSigned)
    assert event.leaves == ((GATEWAY_STREAM, 1), ("session:a", 1))
    assert len(stored.payload) < 500


def test_a_checkpoint_that_is_signed_meanwhile_is_no_damage_of_the_tree() -> None:
    class Watched(InMemoryTree):
        def counts(self) -> tuple[int, int]:
            while pending:
                pending.pop()()
            return super().counts()

    log = InMemoryEventLog()
    signed = SignedLog(log, Watched(log))
    pending = [lambda: sign(signed), lambda: signed.append("session:a")]
    signed.append("session:a")
    sign(signed)
    assert tree_damage(log, signed.tree) == []
    assert not pending
    signed.close()
