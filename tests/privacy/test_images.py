"""A picture and its label say at most what the mechanism's draw says: by enumeration, and by what can be handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted import Script, word

from ldp_client.audit.enumeration import directions
from ldp_client.errors import ParameterError
from ldp_client.privacy.codebook import Codebook, NoisedIndices
from ldp_client.privacy.drawing import Drawn, draw, prepare
from ldp_client.privacy.image_spec import ImageSpec, image, kinds_needed
from ldp_client.privacy.images import NoisedImages, make_images
from ldp_client.privacy.labels import simplex
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.wire.record import pack

SEED = bytes(range(32))
SIDE = 2


class Cards:
    """A painter without a flow: candidate i is a plane of grey level i, standing for a fixed direction."""

    def __init__(self, spec: ImageSpec, dimension: int) -> None:
        self.spec = spec
        self._stands_for = np.random.default_rng(3).normal(size=(spec.candidates, dimension))

    def paint(self, estimates: NDArray[np.float64]) -> NDArray[np.uint8]:
        nearest = np.argmax(estimates @ self._stands_for.T, axis=1).astype(np.uint8)
        return np.broadcast_to(nearest[:, None, None], (len(nearest), SIDE, SIDE)).copy()


class Grey:
    """A painter that paints whatever it was told to."""

    def __init__(self, spec: ImageSpec, painted: NDArray[np.uint8]) -> None:
        self.spec, self._painted = spec, painted

    def paint(self, estimates: NDArray[np.float64]) -> NDArray[np.uint8]:
        return self._painted


def drawn_by(spec: ImageSpec, rows: int = 5) -> Drawn:
    value = prepare(spec.noised, np.ones((rows, spec.input_dimension)), np.arange(rows) % spec.classes)
    return draw(spec.noised, value, [SEED] * rows, SystemSource())


def plain(spec: ImageSpec, rows: int = 5) -> Grey:
    return Grey(spec, np.zeros((rows, spec.side, spec.side), dtype=np.uint8))


# --- every output enumerated

CODEBOOK = image(joint_codebook(epsilon=1, classes=2, bottleneck_dimension=4, codewords=16), side=SIDE, candidates=6)
Said = Callable[[NoisedIndices, Sequence[int], int], list[tuple[int, int]]]
"""From every draw of the codebook, a fair label for each and the true label: the picture's grey level and its label."""


def as_released(drawn: NoisedIndices, fair: Sequence[int], truth: int) -> list[tuple[int, int]]:
    made = make_images(Cards(CODEBOOK, 4), drawn, Script(*(word(label) for label in fair)))
    return list(zip(made.pixels[:, 0, 0].tolist(), made.labels.tolist(), strict=True))


def with_the_true_label(drawn: NoisedIndices, fair: Sequence[int], truth: int) -> list[tuple[int, int]]:
    return [(picture, truth) for picture, _ in as_released(drawn, fair, truth)]


def with_a_label_drawn_once_more(drawn: NoisedIndices, fair: Sequence[int], truth: int) -> list[tuple[int, int]]:
    """Beside the picture of the joint draw, the label randomized at epsilon 1 as well: it costs 2 and not 1."""
    kept = round(16 * float(np.e / (1 + np.e)))  # of 16 equally likely words
    said = as_released(drawn, fair, truth)
    return [
        (picture * 2 + label, truth if index % 16 < kept else 1 - truth) for index, (picture, label) in enumerate(said)
    ]


def distribution(said: Said, output: NDArray[np.float64], label: int, copies: int = 1) -> dict[object, Fraction]:
    """P(picture, label | X-ray, label): each index by each of its words, each fair label, as audit/enumeration.py."""
    book = CODEBOOK.noised.codebook  # type: ignore[union-attr]
    inside, outside = book.subset, book.codewords - book.subset
    rows = 2 * book.codewords * copies
    value = prepare(CODEBOOK.noised, np.tile(output, (rows, 1)), np.full(rows, label))
    # Every choice of heads and every choice of tails, each with both fair labels; the unused choice is the first one.
    heads, tails = np.repeat(np.arange(inside), 2 * copies), np.repeat(np.arange(outside), 2 * copies)
    coins = [book.threshold - 1] * len(heads) + [book.threshold] * len(tails)
    words = (
        np.array(coins, dtype="<u8").tobytes(),
        np.concatenate([heads, np.zeros(len(tails), int)]).astype("<u4").tobytes(),
        np.concatenate([np.zeros(len(heads), int), tails]).astype("<u4").tobytes(),
    )
    drawn = Codebook(book)(value, [SEED] * rows, Script(*words))  # type: ignore[arg-type]
    each = [Fraction(book.threshold, len(heads))] * len(heads)
    each += [Fraction(2**64 - book.threshold, len(tails))] * len(tails)
    chance: dict[object, Fraction] = {}
    for one, weight in zip(said(drawn, [0, 1] * (rows // 2), label), each, strict=True):
        chance[one] = chance.get(one, Fraction(0)) + weight / 2**64
    assert sum(chance.values()) == 1
    return chance


def worst_loss(said: Said, copies: int = 1) -> PrivacyLoss | None:
    """The largest log-ratio of two pairs of X-ray and label over all outputs; None where one never says some output."""
    pairs = [(output, label) for output in directions(4) for label in (0, 1)]
    all_of_them = [distribution(said, output, label, copies) for output, label in pairs]
    worst = Fraction(1)
    for one in set().union(*all_of_them):
        chances = [found.get(one, Fraction(0)) for found in all_of_them]
        if min(chances) == 0:
            return None
        worst = max(worst, max(chances) / min(chances))
    return PrivacyLoss.of_log(worst)


def test_no_picture_and_label_tell_two_xrays_with_two_labels_apart_by_more_than_epsilon() -> None:
    worst = worst_loss(as_released)
    assert worst is not None
    assert PrivacyLoss.of("1/2") < worst <= CODEBOOK.loss == PrivacyLoss.of(1)


def test_a_true_label_or_one_that_is_randomized_once_more_would_break_the_bound() -> None:
    assert worst_loss(with_the_true_label) is None
    twice = worst_loss(with_a_label_drawn_once_more, copies=8)
    assert twice is not None
    assert twice > CODEBOOK.loss


# --- what is made of what

KINDS = {
    "codebook": image(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=3, codewords=64), side=SIDE),
    "laplace": image(joint_laplace(epsilon=2, classes=2, bottleneck_dimension=3, radius=1), side=SIDE),
    "latent": image(latent(epsilon=2, label_epsilon=1, classes=2, bottleneck_dimension=3, radius=1), side=SIDE),
    "dp_glow": image(dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=SIDE**2), side=SIDE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_costs_what_is_noised_and_needs_leave_for_both(kind: str) -> None:
    spec = KINDS[kind]
    assert (spec.loss, spec.source, spec.classes) == (spec.noised.loss, spec.noised.source, 2)
    assert spec.loss <= PrivacyLoss.of(2)
    assert kinds_needed(spec) == ("image", spec.noised.kind)
    assert kinds_needed(spec.noised) == (spec.noised.kind,)
    made = make_images(plain(spec), drawn_by(spec), SystemSource())
    assert {len(record) for record in pack(made)} == {10 + 2 + SIDE**2}


@pytest.mark.parametrize("kind", ["latent", "dp_glow"])
def test_a_label_that_was_randomized_already_is_taken_as_it_is_and_no_byte_is_read(kind: str) -> None:
    spec = KINDS[kind]
    drawn = drawn_by(spec, 40)
    made = make_images(plain(spec, 40), drawn, Script())
    assert made.labels.tolist() == drawn.labels.values.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_picture_stands_for_the_xray_where_the_drawn_label_is_its_own_and_against_it_elsewhere(classes: int) -> None:
    """E[s_l . v] = s_l . (s_y (x) u) = u for l = y, else -u / (K-1): seen through a mechanism with next to no noise."""
    spec = image(joint_laplace(epsilon=10_000, classes=classes, bottleneck_dimension=2, radius=8), side=SIDE)
    output, truth = np.array([1.0, -0.5]), 1
    seen: list[NDArray[np.float64]] = []

    class Looking(Grey):
        def paint(self, estimates: NDArray[np.float64]) -> NDArray[np.uint8]:
            seen.append(estimates)
            return super().paint(estimates)

    value = prepare(spec.noised, np.tile(output, (classes, 1)), np.full(classes, truth))
    drawn = draw(spec.noised, value, [SEED] * classes, SystemSource())
    painter = Looking(spec, np.zeros((classes, SIDE, SIDE), dtype=np.uint8))
    made = make_images(painter, drawn, Script(*(word(label) for label in range(classes))))
    assert made.labels.tolist() == list(range(classes))
    agreement = simplex(classes) @ simplex(classes)[truth]
    assert seen[0] == pytest.approx(agreement[:, None] * output, abs=0.05)


def test_pictures_are_made_of_what_their_own_mechanism_drew_and_of_nothing_else() -> None:
    for spec in KINDS.values():
        for other in KINDS.values():
            if other is not spec:
                with pytest.raises(ParameterError, match=f"made of what its mechanism {spec.noised.kind} drew; found"):
                    make_images(plain(spec), drawn_by(other), SystemSource())
    again = image(joint_laplace(epsilon=1, classes=2, bottleneck_dimension=3, radius=1), side=SIDE)
    with pytest.raises(ParameterError, match="found Noised of another"):
        make_images(plain(again), drawn_by(KINDS["laplace"]), SystemSource())


def test_a_painter_of_another_size_or_type_is_refused() -> None:
    spec = KINDS["laplace"]
    for painted in (np.zeros((5, 3, 2), np.uint8), np.zeros((4, 2, 2), np.uint8), np.zeros((5, 2, 2), np.uint16)):
        with pytest.raises(ParameterError, match="takes pictures of 2 x 2 uint8; the painter made"):
            make_images(Grey(spec, painted), drawn_by(spec), SystemSource())


def test_pictures_that_no_mechanism_drew_cannot_be_made_or_altered() -> None:
    spec = KINDS["laplace"]
    with pytest.raises(ParameterError, match="pictures are made of what a mechanism drew"):
        NoisedImages(np.zeros((1, 2, 2), np.uint8), np.zeros(1, np.int64), spec)
    made = make_images(plain(spec), drawn_by(spec), SystemSource())
    with pytest.raises(ValueError, match="read-only"):
        made.pixels[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("noised", "keys", "words"),
    [
        (joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=1), {"candidates": 1}, "at least 2 candid"),
        (joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=1), {"candidates": 65537}, "65536"),
        (joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=1), {"side": 257}, "256"),
        (
            joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=1, label_code="one_hot", constant="1/4"),
            {},
            "simplex code without a constant; leave both keys out",
        ),
        (
            joint_codebook(epsilon=1, classes=2, bottleneck_dimension=2, codewords=64, constant="1/2"),
            {},
            "simplex code without a constant; leave both keys out",
        ),
    ],
)
def test_an_image_release_that_cannot_be_is_refused(noised: object, keys: dict[str, int], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        image(noised, **({"side": 2} | keys))  # type: ignore[arg-type]


def test_dp_glow_decodes_and_has_no_candidates() -> None:
    assert KINDS["dp_glow"].candidates == 0
    with pytest.raises(ValueError, match="decoded from all latents has no candidates; found 5"):
        ImageSpec(side=SIDE, candidates=5, noised=KINDS["dp_glow"].noised)
