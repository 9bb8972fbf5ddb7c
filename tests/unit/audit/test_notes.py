"""Vectors are those of the specifications' authors, and a checkpoint of a public log."""

import pytest

from actors.audit.signing.keys import SigningKey
from actors.audit.signing.notes import (
    COSIGNATURE,
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    cosigned_at_s,
    cosigned_message,
    parse_checkpoint,
    parse_note,
    parse_signature,
    parse_verifier_key,
    parse_verifier_keys,
    verify_checkpoint,
    verify_note,
    verify_signature,
    with_signatures,
)
from persistence.errors import ProofError

# golang.org/x/mod/sumdb/note
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PETER_SEED = "810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173"
SAYING = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM="
)
BY_ENOCH = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWL"
    "ox33WWd1RvMc+QQ="
)
SIGNED = f"{SAYING}\n{BY_PETER}\n{BY_ENOCH}\n"

# c2sp.org/signed-note
EXAMPLE = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
BY_EXAMPLE = (
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXm"
    "RKuwHjG1Yu72IneyaQM="
)

# A checkpoint of a public certificate log, signed by it and cosigned by witnesses.
LOG = (
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
ROOT = "U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro="
PUBLIC = f"""arche2025h1.staging.ct.transparency.dev
1432088532
{ROOT}

— arche2025h1.staging.ct.transparency.dev \
ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP\
7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden \
2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRA\
ErumC2q44vdgJY096st5BQ==
— remora.n621.de \
2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk\
5XeU/zZ0WBxtqB0DrAWfBw==
"""


@pytest.mark.parametrize("text", [PETER, ENOCH, EXAMPLE, LOG, WITNESS])
def test_a_verifier_key_is_read_and_written_as_others_write_it(text: str) -> None:
    assert str(parse_verifier_key(text)) == text


def test_notes_of_the_go_implementation_verify() -> None:
    note = parse_note(SIGNED)
    assert note.text == SAYING
    peter, enoch = map(parse_verifier_key, (PETER, ENOCH))
    assert verify_note(note, [peter, enoch]) == (peter, enoch)
    assert verify_note(note, [enoch]) == (enoch,)
    assert str(note) == SIGNED


def test_the_note_of_the_specification_verifies() -> None:
    note = parse_note(f"This is an example message.\n\n{BY_EXAMPLE}\n")
    verify_note(note, [parse_verifier_key(EXAMPLE)])


def test_our_signature_is_the_one_of_the_go_implementation() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(PETER_SEED)))
    assert str(key.named("PeterNeumann")) == PETER
    assert str(key.sign("PeterNeumann", SAYING)) == BY_PETER


def test_a_public_logs_checkpoint_and_its_cosignature_verify() -> None:
    checkpoint = verify_checkpoint(PUBLIC, parse_verifier_keys(f"# the log\n{LOG}\n\n{WITNESS}\n"))
    assert (checkpoint.size, checkpoint.extensions) == (1432088532, ())
    note, witness = parse_note(PUBLIC), parse_verifier_key(WITNESS)
    assert checkpoint.text == note.text
    verify_signature(note.text, note.signatures[2], witness)
    assert witness.kind == COSIGNATURE
    assert cosigned_at_s(note.signatures[2]) == 0x6A122120
    with pytest.raises(ProofError, match="not signed by any"):  # a witness is not the log
        verify_checkpoint(PUBLIC, [witness])


def test_what_a_witness_signs_is_as_specified() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert cosigned_message(1679315147, text) == f"cosignature/v1\ntime 1679315147\n{text}".encode()


@pytest.mark.parametrize("kept", [PETER, LOG, WITNESS])
def test_a_text_or_time_that_was_changed_does_not_verify(kept: str) -> None:
    key = parse_verifier_key(kept)
    note = parse_note(SIGNED if kept == PETER else PUBLIC)
    (own,) = [each for each in note.signatures if each.name == key.name]
    verify_signature(note.text, own, key)
    for text, content in (
        (note.text.replace("1432088532", "1432088533").replace("your", "my"), own.content),
        (note.text, own.content[:-1] + b"\0"),
        (note.text, bytes([own.content[0] ^ 1]) + own.content[1:]),
        (note.text, own.content[:-1]),
        (note.text, own.content + b"\0"),
        (note.text, b"\xff" + own.content[1:]),
    ):
        with pytest.raises(ProofError):
            verify_signature(text, Signature(own.name, own.key_id, content), key)


def test_one_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    peter, enoch = map(parse_verifier_key, (PETER, ENOCH))
    note = parse_note(SIGNED)
    right, left = note.signatures
    forged = Signature(left.name, left.key_id, right.content)
    spoiled = with_signatures(Note(note.text, (right,)), [forged])
    with pytest.raises(ProofError, match="EnochRoot"):
        verify_note(spoiled, [peter, enoch])
    verify_note(spoiled, [peter])  # who doesn't know Enoch ignores him


def test_a_key_of_the_same_name_is_another_key() -> None:
    peter = parse_verifier_key(PETER)
    other = VerifierKey(peter.name, peter.kind, bytes(32))
    with pytest.raises(ProofError, match="not signed by any"):
        verify_note(parse_note(SIGNED), [other])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("PeterNeumann", "Peter Neumann"),
        PETER.replace("PeterNeumann", ""),
        PETER[:-4] + "10T=",
        PETER + "\n",
        PETER.replace("+AR", "+BR"),
        "x+00000000+AAAA",
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        parse_verifier_key(text)


@pytest.mark.parametrize(
    "content",
    [
        "",
        SAYING,
        SIGNED[:-1],
        SIGNED + "\n",
        SIGNED.replace("\n\n", "\n"),
        SIGNED.replace("— Peter", "- Peter"),
        SIGNED.replace("PeterNeumann x08", "PeterNeumann  x08"),
        SIGNED.replace("nAM=", "nAN="),  # base64 of the same bytes, spelled otherwise
        SIGNED.replace("If", "I\tf"),
        SIGNED.replace("\n", "\r\n"),
        f"\n{BY_PETER}\n",
        "— PeterNeumann x08goA==\n" * 2,
        f"{SAYING}\n" + f"{BY_PETER}\n" * 101,
        "x" * 100_001,
    ],
)
def test_what_is_no_note_is_refused(content: str) -> None:
    with pytest.raises(ProofError):
        parse_note(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"origin\n1\n{ROOT}",
        f"origin\n01\n{ROOT}\n",
        f"origin\n-1\n{ROOT}\n",
        f"origin\n¹\n{ROOT}\n",
        "origin\n1\nAAAA\n",
        f"origin\n1\n{ROOT}\n\n",
        f"\n1\n{ROOT}\n",
        "origin\n1\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        parse_checkpoint(text)


def test_a_checkpoint_is_written_as_it_is_read() -> None:
    checkpoint = Checkpoint("example.com/log", 0, bytes(32), ("more", "and more"))
    assert parse_checkpoint(checkpoint.text) == checkpoint


@pytest.mark.parametrize("line", ["", "—", "— name", "— name AAAA", BY_PETER[2:], f"{BY_PETER} "])
def test_what_is_no_signature_line_is_refused(line: str) -> None:
    with pytest.raises(ProofError):
        parse_signature(line)
