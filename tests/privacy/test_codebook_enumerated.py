"""The codebook enumerated, decoded and set beside PrivUnit; each statistical check beside a twin that must fail."""

from __future__ import annotations

import hashlib
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted import Script, word

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, clip
from ldp_client.privacy.codebook import Codebook, decode
from ldp_client.privacy.codebook_design import nearness
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.release_design import joint_codebook
from ldp_client.privacy.spec import MAX_DIRECTION_STEPS, CodebookSpec, DirectionClip, threshold_for

RULE = DirectionClip(radius_steps=MAX_DIRECTION_STEPS)


def book(dimension: int = 3, count: int = 16, subset: int = 5, threshold: int = 3 * 2**62) -> CodebookSpec:
    return CodebookSpec(clip=RULE, dimension=dimension, codewords=count, subset=subset, threshold=threshold)


def seed(name: object) -> bytes:
    return hashlib.sha256(str(name).encode()).digest()


def directions(count: int, dimension: int) -> NDArray[np.int64]:
    drawn = np.random.default_rng(1).normal(size=(count, dimension)) * 1000
    return clip(np.rint(drawn).astype(np.int64), RULE).steps


def enumerated(spec: CodebookSpec, direction: NDArray[np.int64], of: bytes) -> list[Fraction]:
    """The chance of each index, by driving the mechanism through every coin and every two ranks."""
    keep, inside, outside = Fraction(spec.threshold, 2**64), spec.subset, spec.codewords - spec.subset
    chances = [Fraction(0)] * spec.codewords
    for word_drawn, chance in ((spec.threshold - 1, keep), (spec.threshold, 1 - keep)):
        coin = word_drawn.to_bytes(8, "little")
        for near, far in itertools.product(range(inside), range(outside)):
            drawn = Codebook(spec)(Clipped(direction[None], RULE), [of], Script(coin, word(near), word(far)))
            chances[int(drawn.indices[0])] += chance / inside / outside
    return chances


@pytest.mark.parametrize(("dimension", "count", "subset"), [(1, 2, 1), (2, 8, 1), (3, 16, 5), (8, 16, 15)])
@pytest.mark.parametrize("epsilon", ["1/10", "2", "8"])
def test_every_coin_and_rank_tried_no_ratio_passes_the_stated_loss(
    dimension: int, count: int, subset: int, epsilon: str
) -> None:
    spec = book(dimension, count, subset, threshold_for(Fraction(epsilon), count, subset))
    rows = [enumerated(spec, one, seed(7)) for one in (*directions(4, dimension), -directions(4, dimension)[0])]
    assert all(sum(row) == 1 for row in rows)
    worst = max(a / b for one in rows for other in rows for a, b in zip(one, other, strict=True))
    assert worst > 1
    assert PrivacyLoss.of_log(worst) <= spec.loss <= PrivacyLoss.of(epsilon)


@pytest.mark.parametrize("count", [1024, 65_536])
def test_the_nearest_of_many_on_a_circle_is_integrated_where_it_lies(count: int) -> None:
    """E[cos(pi B)], B the least of M uniforms, = 1 - pi^2 / ((M+1)(M+2)) and a term below pi^4 / M^4."""
    wanted = 1 - math.pi**2 / ((count + 1) * (count + 2))
    assert nearness(2, count, 1) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("epsilon", [Fraction(65), Fraction(10**6), Fraction(10**39)])
def test_a_huge_epsilon_neither_fills_the_memory_nor_gives_certainty(epsilon: Fraction) -> None:
    assert threshold_for(epsilon, 2, 1) == 2**64 - 1


@pytest.mark.parametrize(
    "epsilon",
    [Fraction(1, 10**30), Fraction(1, 10**5000), 10**5000, 10**7],
    ids=["1e-30", "1e-5000", "1e5000", "1e7"],
)
def test_an_epsilon_that_no_ledger_counts_is_refused_and_neither_overflows_nor_divides_by_nothing(
    epsilon: Fraction | int,
) -> None:
    with pytest.raises(ParameterError, match="epsilon must be at least a millionth, in which the ledger counts, and"):
        joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=8)


def test_the_smallest_epsilon_that_is_counted_has_a_codebook() -> None:
    spec = joint_codebook(epsilon="0.000001", classes=2, bottleneck_dimension=8).codebook
    assert (spec.codewords, spec.loss) == (256, PrivacyLoss(1))


def test_the_least_advantage_is_still_decoded_by_a_finite_number() -> None:
    """p = 1/2 + 2^-64 is 1/2 to a float; its advantage is 2^-63."""
    spec = book(1, 2, 1, threshold=2**63 + 1)
    assert decode(spec, [0, 1], [seed(0)] * 2).tolist() == [[2.0**63], [-(2.0**63)]]


def test_a_seed_of_another_length_is_refused_before_anything_is_drawn() -> None:
    source = Script()
    for spec in (book(), book(1, 2, 1)):
        with pytest.raises(ParameterError, match="a codebook's seed has 32 bytes; found another length"):
            Codebook(spec)(clip(directions(1, spec.dimension), RULE), [b"short"], source)
    assert source.asked == []
