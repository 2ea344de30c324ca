"""Records: noised integers in, the same integers out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldp_client.errors import FormatError, ParameterError
from ldp_client.privacy.clipping import clip
from ldp_client.privacy.image_spec import ImageSpec, image
from ldp_client.privacy.laplace import DiscreteLaplace, Noised
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.wire.record import check_contents, drawable, pack, record_digest, unpack

RELEASE = joint_laplace(epsilon=2, classes=3, bottleneck_dimension=2, radius=1)
LIMIT = RELEASE.laplace.clip.radius_steps + 2**7 * (int(RELEASE.laplace.scale) + 1)


def noised(rows: int = 3) -> Noised:
    steps = clip(np.zeros((rows, 4), dtype=np.int64), RELEASE.laplace.clip)
    return DiscreteLaplace(RELEASE.laplace)(steps, SystemSource())


def bytes_of(*values: int) -> bytes:
    return b"LDPR\x01\x01" + len(values).to_bytes(4, "little") + np.array(values, dtype="<i8").tobytes()


def test_each_row_becomes_one_record_and_reads_back() -> None:
    values = noised()
    records = pack(values)
    assert [unpack(record, RELEASE).tolist() for record in records] == values.steps.tolist()
    assert {len(record) for record in records} == {10 + 8 * 4}


@given(st.lists(st.integers(-LIMIT, LIMIT), min_size=4, max_size=4))
def test_every_value_that_the_mechanism_can_draw_reads_back(values: list[int]) -> None:
    steps = unpack(bytes_of(*values), RELEASE)
    assert steps.tolist() == values
    assert steps.dtype == np.int64
    assert steps.dtype.isnative


def test_all_records_of_a_release_have_one_length_whatever_they_hold() -> None:
    assert len({len(record) for record in pack(noised(200))}) == 1


def test_only_what_a_mechanism_noised_can_be_packed() -> None:
    with pytest.raises(ParameterError, match="only what a mechanism noised can be packed; found ndarray"):
        pack(np.zeros((1, 4), dtype=np.int64))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="only what a mechanism noised can be packed; found Clipped"):
        pack(clip(np.zeros((1, 4), dtype=np.int64), RELEASE.laplace.clip))  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 9, 10, 41, 43, 1000])
def test_missing_and_leftover_bytes_are_refused(length: int) -> None:
    payload = (bytes_of(1, 2, 3, 4) + bytes(1000))[:length]
    with pytest.raises(FormatError, match=f"a record of 4 coordinates has 42 bytes; found {length}"):
        unpack(payload, RELEASE)


@pytest.mark.parametrize("place", range(10))
def test_another_magic_version_kind_or_dimension_is_refused(place: int) -> None:
    payload = bytearray(bytes_of(1, 2, 3, 4))
    payload[place] ^= 2
    with pytest.raises(FormatError, match="expected a version 1 vector of 4 coordinates; found another record"):
        unpack(bytes(payload), RELEASE)


def test_a_record_of_another_dimension_is_refused() -> None:
    with pytest.raises(FormatError, match="a record of 4 coordinates has 42 bytes; found 34"):
        unpack(bytes_of(1, 2, 3), RELEASE)


@pytest.mark.parametrize("value", [LIMIT + 1, -LIMIT - 1, 2**63 - 1, -(2**63)])
def test_a_value_that_no_draw_reaches_is_refused(value: int) -> None:
    with pytest.raises(FormatError, match="a coordinate lies further out than this mechanism can ever put it"):
        unpack(bytes_of(0, value, 0, 0), RELEASE)


@given(st.binary(max_size=60))
def test_bytes_from_anywhere_are_refused_or_are_a_record_and_never_crash(junk: bytes) -> None:
    for payload in (junk, bytes_of(1, 2, 3, 4)[:10] + junk):
        try:
            steps = unpack(payload, RELEASE)
        except FormatError:
            continue
        assert steps.shape == (4,)
        assert int(np.abs(steps).max()) <= LIMIT


KINDS: list[ReleaseSpec | ImageSpec] = [
    RELEASE,
    image(RELEASE, side=3),
    joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, codewords=64),
    latent(epsilon=2, label_epsilon=1, classes=3, bottleneck_dimension=2, radius=1),
    dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=16),
]
SEED = bytes(range(32))


def record_of(release: ReleaseSpec | ImageSpec) -> bytes:
    if isinstance(release, ImageSpec):
        return b"LDPR\x01\x04" + release.side.to_bytes(4, "little") + bytes(2 + release.side**2)
    if release.kind == "joint_codebook":
        return b"LDPR\x01\x02" + release.codebook.dimension.to_bytes(4, "little") + bytes(4) + SEED
    steps = bytes(8 * release.laplace.dimension)
    head = release.laplace.dimension.to_bytes(4, "little")
    return (
        b"LDPR\x01"
        + (b"\x01" + head if release.kind == "joint_discrete_laplace" else b"\x03" + head + bytes(2))
        + steps
    )


@given(st.sampled_from(KINDS), st.data())
def test_many_records_at_once_are_judged_as_each_alone(release: ReleaseSpec | ImageSpec, data: st.DataObject) -> None:
    good = record_of(release)
    places = st.tuples(st.integers(0, len(good) - 1), st.binary(min_size=1, max_size=8))
    bad = [good[:at] + other + good[at + len(other) :] for at, other in data.draw(st.lists(places, max_size=8))]
    payloads = data.draw(st.permutations([good, good[:-1], good + b"x", b"", *bad]))
    seeds = [data.draw(st.sampled_from([SEED, bytes(32)])) for _ in payloads]
    judged = []
    for payload, seed in zip(payloads, seeds, strict=True):
        try:
            check_contents(payload, release, seed)
        except FormatError:
            judged.append(False)
        else:
            judged.append(True)
    assert drawable(payloads, release, seeds).tolist() == judged
    assert drawable([good], release, [SEED]).tolist() == [True]
    assert drawable([], release, []).tolist() == []


def test_the_digest_binds_payload_campaign_and_charge() -> None:
    seen = {
        record_digest(campaign, charge, payload)
        for campaign in ("a" * 64, "b" * 64)
        for charge in (1, 2, 256)
        for payload in (b"x", b"y", b"")
    }
    assert len(seen) == 18


# --- pictures

PICTURE = image(RELEASE, side=3)


def picture_bytes(label: int, grey: bytes, side: int = 3) -> bytes:
    return b"LDPR\x01\x04" + side.to_bytes(4, "little") + label.to_bytes(2, "little") + grey


@given(st.integers(0, 2), st.binary(min_size=9, max_size=9))
def test_every_picture_reads_back(label: int, grey: bytes) -> None:
    found = unpack(picture_bytes(label, grey), PICTURE)
    assert (found.label, found.pixels.shape, found.pixels.tobytes()) == (label, (3, 3), grey)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (picture_bytes(0, bytes(8)), "a record of 3 pixels a side has 21 bytes; found 20"),
        (picture_bytes(0, bytes(10)), "a record of 3 pixels a side has 21 bytes; found 22"),
        (picture_bytes(3, bytes(9)), "there are 3 labels; found label 3"),
        (picture_bytes(0, bytes(9), side=4), "expected a version 1 labelled image of 3 pixels a side; found another"),
        (bytes_of(1)[:6] + picture_bytes(0, bytes(9))[6:], "expected a version 1 labelled image of 3 pixels a side"),
    ],
)
def test_what_is_no_picture_of_the_release_is_refused(payload: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        unpack(payload, PICTURE)
