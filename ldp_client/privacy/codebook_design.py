"""How good a codebook is, and which one is best: numbers that no privacy rests on.

For a direction u of R^d and M codewords uniform on the sphere, let T be the expected inner product of u with one of the
s nearest. A codeword drawn by the codebook mechanism has the mean m u,

    m = T (p - (1 - p) s / (M - s)),

so v / m estimates u without bias, over mechanism and codewords, with E |v/m - u|^2 = 1/m^2 - 1.

T = (M/s) E[H(B)], B ~ Beta(s, M - s) the share of the sphere that is nearer than the (s+1)-st nearest codeword, and
H(b) = c/(d-1) (1 - t^2)^((d-1)/2) the integral of the inner product over the cap of share b, t its edge.

With ever more codewords, B becomes the share b = s/M itself: m = H(b) (e^eps - 1) / (b e^eps + 1 - b). At its best b
this is PrivUnit (Bhowmick et al. 2018), which no unbiased mechanism on the sphere betters (Asi, Feldman, Talwar 2022).
The best codebook for a dimension and an epsilon is the smallest that comes within 1 % of its error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy.spec import MAX_CODEBOOK_COORDINATES, MAX_CODEWORDS, CodebookSpec, advantage

EXCESS = 0.01
"""How far above the smallest possible error the error of `best_codewords` may lie."""
_NODES = 1 << 16
_LARGEST_EPSILON = 700.0  # beyond it e^eps is no float; every codebook is as good as its codewords long before


def nearness(dimension: int, codewords: int, subset: int) -> float:
    """T: the mean inner product of a direction with its `subset` nearest of `codewords`, by quadrature.

    >>> round(nearness(2, 2, 1), 6)  # the nearer of two points on a circle: 4 / pi^2
    0.405285
    """
    if dimension == 1:
        return 1.0  # the two codewords are -1 and +1
    cells = _cells(dimension)
    near, far = subset, codewords - subset
    # Beta(s, M - s), whose density is b^(s-1) (1-b)^(M-s-1) over its integral.
    log_beta = (near - 1) * cells.log_share + (far - 1) * cells.log_rest
    log_beta += math.lgamma(codewords) - math.lgamma(near) - math.lgamma(far)
    return codewords / subset * float(np.exp(log_beta) @ (cells.mass * cells.moment))


def mean_length(dimension: int, codewords: int, subset: int, epsilon: float) -> float:
    """m: how much of the direction is left in the mean of the drawn codeword, p being all that epsilon allows."""
    # p - (1 - p) s / (M - s) with p = s e^eps / (s e^eps + M - s), written so that a small epsilon keeps its digits.
    gain = math.expm1(min(epsilon, _LARGEST_EPSILON))
    return nearness(dimension, codewords, subset) * subset * gain / (subset * gain + codewords)


def decode_constant(spec: CodebookSpec) -> float:
    """m of a spec, with the probability that its threshold stands for."""
    likelier = float(advantage(spec.codewords, spec.subset, spec.threshold))
    return nearness(spec.dimension, spec.codewords, spec.subset) * likelier


@lru_cache(maxsize=256)
def best_subset(dimension: int, codewords: int, epsilon: float) -> int:
    """The s of 1 .. M/2 with the largest m, and so the smallest error, at this epsilon."""
    low, high = 1, max(1, codewords // 2)
    # m rises to its maximum and falls: halve the interval by the slope in its middle.
    while low < high:
        middle = (low + high) // 2
        here, next_one = (mean_length(dimension, codewords, subset, epsilon) for subset in (middle, middle + 1))
        low, high = (middle + 1, high) if here < next_one else (low, middle)
    return low


def squared_error(dimension: int, codewords: int, epsilon: float) -> float:
    """E |v/m - u|^2 = 1/m^2 - 1 of the best codebook of so many codewords."""
    return mean_length(dimension, codewords, best_subset(dimension, codewords, epsilon), epsilon) ** -2 - 1


def smallest_error(dimension: int, epsilon: float) -> float:
    """The same with more and more codewords: PrivUnit's error, below which no number of codewords leads.

    Two or more dimensions; in one, two codewords are all there are.
    """
    cells = _cells(dimension)
    share = np.exp(cells.log_share)
    gain = math.expm1(min(epsilon, _LARGEST_EPSILON))
    return float(np.max(cells.moment * (gain / (share * gain + 1)))) ** -2 - 1


@lru_cache(maxsize=256)
def best_codewords(dimension: int, epsilon: float) -> int:
    """M: the smallest power of two whose error is within 1 % of the smallest possible one.

    Where that would take more than MAX_CODEWORDS codewords, or more coordinates for a record than
    MAX_CODEBOOK_COORDINATES, the largest power of two that does not.

    >>> [best_codewords(8, epsilon) for epsilon in (1.0, 4.0, 8.0)]
    [256, 512, 4096]
    """
    enough = (1 + EXCESS) * smallest_error(dimension, epsilon)
    most = min(MAX_CODEWORDS, MAX_CODEBOOK_COORDINATES // dimension)
    codewords = 2
    while 2 * codewords <= most and squared_error(dimension, codewords, epsilon) > enough:
        codewords *= 2
    return codewords


@dataclass(frozen=True, eq=False)
class _Cells:
    """Angles in (0, pi) in small cells: the mass of each, and the cap inside it: share b, log b, log (1-b) and H(b)."""

    mass: NDArray[np.float64]
    log_share: NDArray[np.float64]
    log_rest: NDArray[np.float64]
    moment: NDArray[np.float64]


@lru_cache(maxsize=64)
def _cells(dimension: int) -> _Cells:
    """With angle = pi x - sin(2 pi x) / 2, cells are small near the pole, where the nearest of many codewords lie."""
    # The inner product t of two uniform directions has density c (1 - t^2)^((d-3)/2).
    normaliser = math.exp(math.lgamma(dimension / 2) - math.lgamma((dimension - 1) / 2)) / math.sqrt(math.pi)
    place = (np.arange(_NODES) + 0.5) / _NODES
    sine = np.sin(math.pi * place - np.sin(2 * math.pi * place) / 2)
    width = math.pi * (1 - np.cos(2 * math.pi * place)) / _NODES
    mass = normaliser * sine ** (dimension - 2) * width
    # The middle of each cell: half of its own mass and all before it.
    share = np.clip(np.cumsum(mass) - mass / 2, np.finfo(np.float64).tiny, 1.0)
    with np.errstate(divide="ignore"):
        rest = np.log1p(-share)
    moment = normaliser / (dimension - 1) * sine ** (dimension - 1)
    return _Cells(mass, np.log(share), np.maximum(rest, -1e4), moment)
