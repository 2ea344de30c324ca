"""The attack on the least significant bits, on textbook floating-point noise and on ours.

Mironov (2012): x - b log(u) sign, computed in doubles, cannot reach every double, and which ones it reaches depends on
x. Whoever sees a value that only one of two inputs can reach knows the input, whatever epsilon was promised. The attack
finds the uniform number u that would have been needed and tries it and its neighbours.

Against integers there is nothing to find: both inputs reach the same integers. The attacker keeps the best guess that
the noise leaves, and an attack that learns the low bits from samples of its own is tried as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ldp_client.audit.bounds import lower_bound
from ldp_client.audit.engine import Engine, Floats, Integers
from ldp_client.audit.findings import ALPHA, Attack, Effort
from ldp_client.privacy.laplace import decode
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import best_guess
from ldp_client.privacy.noise import ByteSource
from ldp_client.privacy.spec import DiscreteLaplaceSpec, L1Clip

EPSILON = Fraction(1, 2)
_INPUTS = (-0.5, 0.5)
_SCALE = float(1 / EPSILON)
_UNIFORM = 2.0**-53
_NEIGHBOURS = 4
_LOW_BITS = 6


def textbook_noise(value: float, count: int, source: ByteSource) -> Floats:
    """value + sign b ln(u) in doubles, as in countless libraries: the control. Shape (count,)."""
    words = np.frombuffer(source(8 * count), dtype="<u8")
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 1.0) * _UNIFORM  # (0, 1]
    sign = np.where(words & np.uint64(1), 1.0, -1.0)
    return value + sign * (_SCALE * np.log(uniform))


def reachable(released: Floats, value: float) -> NDArray[np.bool_]:
    """Whether the textbook formula can turn `value` into each released double."""
    noise = released - value
    guess = np.rint(np.exp(-np.abs(noise) / _SCALE) / _UNIFORM)
    found = np.zeros(released.shape, dtype=np.bool_)
    for offset in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
        uniform = np.clip(guess + offset, 1.0, 2.0**53) * _UNIFORM
        length = _SCALE * np.log(uniform)
        found |= (value + length == released) | (value - length == released)
    return found


def guess_by_support(released: Floats) -> NDArray[np.bool_]:
    """Mironov's attacker: True for the second input. Where the support does not tell, the nearer input is likelier."""
    first, second = (reachable(released, value) for value in _INPUTS)
    return np.where(first == second, released > 0, second)


def attack_textbook(samples: int, source: ByteSource) -> Attack:
    """The control: on doubles the attack must pass the ceiling, else it would prove nothing about us."""
    right = _right(*(guess_by_support(textbook_noise(value, samples, source)) for value in _INPUTS))
    return _attack("textbook float Laplace (control), support of the doubles", right, 2 * samples, control=True)


def attack_integers(engine: Engine, samples: int, source: ByteSource) -> Iterable[Attack]:
    """The same attacker on what we release, and one that learns its low bits from half of the samples."""
    steps = 512  # half a unit on a grid of 1/1024: the two inputs are as far apart as in the control
    spec = DiscreteLaplaceSpec(
        clip=L1Clip(radius_steps=steps), dimension=1, scale=2 * steps / EPSILON, grid=Fraction(1, 1024)
    )
    drawn = [engine.laplace(spec, np.full((samples, 1), value), source) for value in _INPUTS]
    right = _right(*(guess_by_support(decode(one, spec)[:, 0]) for one in drawn))
    yield _attack("discrete Laplace, support of the doubles", right, 2 * samples)
    half = samples // 2
    table = _learnt(drawn[0][:half, 0], drawn[1][:half, 0])
    right = _right(*(table[_features(one[half:, 0])] for one in drawn))
    yield _attack(f"discrete Laplace, {_LOW_BITS} low bits learnt from samples", right, 2 * (samples - half))


def attacks(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Attack]:
    """The control and its targets."""
    yield attack_textbook(effort.records, source)
    yield from attack_integers(engine, effort.records, source)


def _features(drawn: Integers) -> Integers:
    side = (drawn > 0).astype(np.int64)
    features: Integers = (drawn & (2**_LOW_BITS - 1)) + (side << _LOW_BITS)
    return features


def _learnt(first: Integers, second: Integers) -> NDArray[np.bool_]:
    size = 2 ** (_LOW_BITS + 1)
    table: NDArray[np.bool_] = np.bincount(_features(second), minlength=size) > np.bincount(
        _features(first), minlength=size
    )
    return table


def _right(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(~first)) + int(np.count_nonzero(second))


def _attack(target: str, right: int, samples: int, control: bool = False) -> Attack:
    ceiling = best_guess(PrivacyLoss.of(EPSILON))
    # Half of the guesses are made for each input, at two different chances: such a sum has lighter tails than the
    # binomial distribution of its mean (Hoeffding 1956), so the bound holds for the mean.
    return Attack(target, right / samples, lower_bound(right, samples, ALPHA), ceiling, samples, control)
