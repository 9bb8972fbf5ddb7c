import stat
import subprocess
from pathlib import Path

import pytest

from actors.audit.signing.keys import (
    KeyFileError,
    generate,
    read_keys,
    read_or_generate,
    retire,
    rotate,
)
from actors.audit.signing.notes import parse_verifier_key


def test_a_new_key_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "signing.key"
    made = generate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.public_key for each in read_keys(path)] == [made.public_key]
    assert list(path.parent.iterdir()) == [path]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    made = generate(path)
    with pytest.raises(KeyFileError, match="rotate it instead"):
        generate(path)
    assert read_or_generate(path)[0].public_key == made.public_key
    assert list(tmp_path.iterdir()) == [path]


def test_after_a_rotation_the_new_key_comes_first_and_the_one_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    first = generate(path).public_key
    second = rotate(path).public_key
    assert [each.public_key for each in read_keys(path)] == [second, first]
    third = rotate(path).public_key
    assert [each.public_key for each in read_keys(path)] == [third, second]
    assert retire(path)
    assert [each.public_key for each in read_keys(path)] == [third]
    assert not retire(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_openssl_made_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "openssl.key"
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl")
    (key,) = read_keys(path)
    assert parse_verifier_key(str(key.named(key.origin))).public_key == key.public_key


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "must hold one signing key"),
        (b"not a key", "must hold one signing key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "can be read"),
    ],
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=problem):
        read_keys(path)


def test_a_key_of_another_kind_or_with_a_password_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    path = tmp_path / "signing.key"
    pem, pkcs8 = s.Encoding.PEM, s.PrivateFormat.PKCS8
    path.write_bytes(X25519PrivateKey.generate().private_bytes(pem, pkcs8, s.NoEncryption()))
    with pytest.raises(KeyFileError, match="must hold an Ed25519 key"):
        read_keys(path)
    hidden = s.BestAvailableEncryption(b"secret")
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, hidden))
    with pytest.raises(KeyFileError, match="without a password"):
        read_keys(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        read_keys(tmp_path / "signing.key")
