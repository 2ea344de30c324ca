"""Keys: files that only their owner reads, signatures that only their holder makes, seals that only one key opens."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldp_client.errors import ConfigurationError, EnvelopeError
from ldp_client.new_file import sync_folder
from ldp_client.wire.signing import (
    SealingKey,
    SigningKey,
    check_signature,
    create_secret,
    fingerprint,
    key_id,
    read_secret,
    seal,
    unseal,
)

KEY = SigningKey(b"k" * 32)
CENTRE = SealingKey(b"c" * 32)
SECRET = bytes(range(32))

# --- files


def test_a_secret_is_written_for_its_owner_alone_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        create_secret(path, SECRET)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_secret(path) == SECRET


def test_a_secret_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_secret(path, SECRET)
    with pytest.raises(ConfigurationError, match="key exists already and is not overwritten; move it away"):
        create_secret(path, b"x" * 32)
    assert read_secret(path) == SECRET


def test_a_secret_is_not_written_through_a_symbolic_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "key").symlink_to(target)
    with pytest.raises(ConfigurationError, match="exists already"):
        create_secret(tmp_path / "key", SECRET)
    assert not target.exists()


def test_a_secret_in_a_folder_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"cannot be made \(No such file or directory\); make its folder first"
    ):
        create_secret(tmp_path / "missing" / "key", SECRET)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666])
def test_a_key_file_that_anybody_else_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    create_secret(path, SECRET)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"must be a plain file that only its owner can read: chmod 600"):
        read_secret(path)
    path.chmod(0o400)
    assert read_secret(path) == SECRET


def test_a_symbolic_link_to_a_key_is_refused(tmp_path: Path) -> None:
    create_secret(tmp_path / "real", SECRET)
    (tmp_path / "key").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match=r"cannot be opened .*; create it, or run as its owner"):
        read_secret(tmp_path / "key")


def test_a_missing_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be opened \(No such file or directory\)"):
        read_secret(tmp_path / "key")


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="must be a plain file that only its owner can read"):
        read_secret(tmp_path / "key")


def test_a_pipe_is_no_key_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    refused: list[BaseException] = []

    def attempt() -> None:
        try:
            read_secret(tmp_path / "key")
        except ConfigurationError as error:
            refused.append(error)

    reader = threading.Thread(target=attempt, daemon=True)
    reader.start()
    reader.join(timeout=10)
    assert not reader.is_alive()
    assert "must be a plain file" in str(refused[0])


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_secret_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    create_secret(tmp_path / "key", b"x" * length)
    with pytest.raises(
        ConfigurationError, match=r"must hold 32 bytes; found another length. Restore it from its backup"
    ):
        read_secret(tmp_path / "key")


def test_refusing_a_file_leaves_no_handle_open(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir(mode=0o700)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        with pytest.raises(ConfigurationError):
            read_secret(tmp_path / "key")
    sync_folder(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# --- signatures


def test_ed25519_is_that_of_rfc_8032() -> None:
    """Section 7.1, test 2."""
    key = SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@given(st.binary(max_size=100), st.data())
@settings(max_examples=50)
def test_a_signature_belongs_to_one_message_and_one_key(message: bytes, data: st.DataObject) -> None:
    signature = KEY.sign(message)
    check_signature(KEY.public_key, signature, message)
    bit = data.draw(st.integers(0, 511))
    broken = bytearray(signature)
    broken[bit // 8] ^= 1 << bit % 8
    text = "the signature does not belong to these bytes and this key"
    for arguments in (
        (KEY.public_key, bytes(broken), message),
        (KEY.public_key, signature, message + b"x"),
        (SigningKey(b"o" * 32).public_key, signature, message),
        (KEY.public_key, signature[:-1], message),
        (b"", signature, message),
    ):
        with pytest.raises(EnvelopeError, match=text):
            check_signature(*arguments)


def test_a_signature_cannot_be_rewritten_into_a_second_one() -> None:
    """s + L is the same signature to a careless verifier: identical documents would have two digests."""
    order = 2**252 + 27742317777372353535851937790883648493
    signature = KEY.sign(b"x")
    shifted = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(EnvelopeError):
        check_signature(KEY.public_key, signature[:32] + shifted.to_bytes(32, "little"), b"x")


def test_private_keys_do_not_show_in_their_text() -> None:
    for key in (KEY, CENTRE):
        assert key.secret.hex() not in repr(key)
        assert str(key.secret) not in repr(key)
        assert "kkkk" not in str(key)


def test_a_fingerprint_can_be_read_out_and_names_the_key() -> None:
    text = fingerprint(KEY.public_key)
    assert text.replace("-", "") == key_id(KEY.public_key).hex()[:16]
    assert [len(group) for group in text.split("-")] == [4, 4, 4, 4]
    assert fingerprint(CENTRE.public_key) != text


# --- seals


@given(st.binary(max_size=300))
@settings(max_examples=30)
def test_what_is_sealed_opens_with_the_centres_key(plaintext: bytes) -> None:
    assert unseal(seal(plaintext, CENTRE.public_key), CENTRE) == plaintext


def test_sealing_twice_shows_no_sign_of_the_same_bytes() -> None:
    first, second = (seal(b"the same", CENTRE.public_key) for _ in range(2))
    assert first != second
    assert b"the same" not in first


def test_one_flipped_bit_of_the_sealed_bytes_is_refused() -> None:
    sealed = seal(b"sixteen bytes ok", CENTRE.public_key)
    for bit in range(0, 8 * len(sealed), 5):
        broken = bytearray(sealed)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EnvelopeError, match="the sealed bytes do not open with the centre's key"):
            unseal(bytes(broken), CENTRE)


def test_the_bit_of_a_point_that_x25519_ignores_is_bound_by_hpke() -> None:
    broken = bytearray(seal(b"x", CENTRE.public_key))
    broken[31] ^= 0x80
    with pytest.raises(EnvelopeError, match="altered or meant for another"):
        unseal(bytes(broken), CENTRE)


@given(st.binary(max_size=120))
@settings(max_examples=50)
def test_bytes_from_anywhere_do_not_open_and_never_crash(junk: bytes) -> None:
    with pytest.raises(EnvelopeError, match="the sealed bytes do not open with the centre's key"):
        unseal(junk, CENTRE)


def test_what_is_sealed_to_another_centre_does_not_open() -> None:
    with pytest.raises(EnvelopeError, match="altered or meant for another"):
        unseal(seal(b"x", SealingKey(b"d" * 32).public_key), CENTRE)


def test_truncated_and_extended_seals_do_not_open() -> None:
    sealed = seal(b"x", CENTRE.public_key)
    for other in (sealed[:-1], sealed + b"\x00", sealed[1:], b""):
        with pytest.raises(EnvelopeError, match="do not open"):
            unseal(other, CENTRE)


@pytest.mark.parametrize("key", [b"", b"short", bytes(32), b"\x01" + bytes(31)], ids=["none", "short", "zero", "one"])
def test_nothing_is_sealed_to_a_key_that_everybody_could_open(key: bytes) -> None:
    with pytest.raises(EnvelopeError, match="the centre's sealing key is no key that can be sealed to; compare"):
        seal(b"x", key)
