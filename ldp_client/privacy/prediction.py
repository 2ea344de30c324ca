"""How good a linear classifier will be that is learnt from records: a prediction from public numbers, without a draw.

The population. Bottleneck outputs z of R^k are whitened: covariance I over all X-rays. Within class y they are normal
around mu_y; all class means lie equally far apart, so far that the classifier without noise has the area `auc` under
its ROC curve:

    auc = Phi(d / sqrt 2),   D = d s,   s^2 = 1 / (1 + d^2 (1 - sum pi_y^2) / (2 (K - 1))),

D the distance in whitened units and s^2 what is left of the variance within a class along it. The population's mean is
`shift` away from 0, across the classes (with k = 1, along them).

What is learnt. The mean of N records gives for each class y the sum pi_y E[f | y], f the clipped or normalised
features, up to an error of covariance C / N. For classes a and b the classifier scores along

    w = S_a / p_a - S_b / p_b,   S_y ~ N(eta pi_y mu_y, C_yy / N) in each of k coordinates,

p_y the estimated share, or 1 where a release carries none. eta = E[f . z] / E|z|^2 is what the clip leaves of a class
mean, to first order. A direction w has the area Phi(w_1 D / sqrt(2 (s^2 w_1^2 + |w_rest|^2))), w_1 along the class
means; its expectation over the noise is taken by quadrature. A wrong sign counts as what it is: an area below 1/2.

The error: the model is a model. `python -m examples.bench planner` measures it against the mechanisms themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.codebook_design import decode_constant
from ldp_client.privacy.labels import label_codes, simplex
from ldp_client.privacy.laplace import noise_variance
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec, ReleaseSpec
from ldp_client.privacy.spec import RandomizedResponseSpec

Floats = NDArray[np.float64]
_NORMAL = NormalDist()
_CELLS = 1 << 13
_LENGTHS = 14


@dataclass(frozen=True)
class Population:
    """What is assumed of the X-rays: nothing in it comes from a hospital.

    `auc` is the area under the ROC curve that a classifier without noise is expected to reach on this encoder's output
    (of each pair of classes), `prevalence` the share of each label, `shift` the distance of the population's mean from
    the public one in public standard deviations.

    Raises:
        ParameterError: an area outside (0.5, 1), shares that are not positive or do not add up to 1, or a negative
            shift.
    """

    auc: float
    prevalence: tuple[float, ...]
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not 0.5 < self.auc < 1:
            raise ParameterError(f"the AUC without noise lies between 0.5 and 1; found {self.auc}")
        shares = self.prevalence
        if len(shares) < 2 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise ParameterError(f"a prevalence has at least 2 positive shares that add up to 1; found {shares}")
        if not 0 <= self.shift < math.inf:
            raise ParameterError(f"the shift is a distance, 0 or more; found {self.shift}")

    @property
    def within(self) -> float:
        """s^2, the variance within a class along the class means."""
        mixed = 1 - sum(share**2 for share in self.prevalence)
        return 1 / (1 + self._separation**2 * mixed / (2 * (len(self.prevalence) - 1)))

    @property
    def distance(self) -> float:
        """D, between two class means in whitened units."""
        return self._separation * math.sqrt(self.within)

    @property
    def _separation(self) -> float:
        return math.sqrt(2) * _NORMAL.inv_cdf(self.auc)

    def means(self, dimension: int) -> Floats:
        """mu_y in K coordinates that suit them: K-1 that the class means span, and one that the shift is along."""
        vertices = simplex(len(self.prevalence))
        vertices = vertices * self.distance / np.linalg.norm(vertices[0] - vertices[1])
        vertices = vertices - np.array(self.prevalence) @ vertices
        across = np.full((len(vertices), 1), self.shift if dimension > 1 else 0.0)
        if dimension == 1:
            vertices = vertices + self.shift
        return np.concatenate([vertices, across], axis=1)


@dataclass(frozen=True)
class Prediction:
    """What to expect of one release: area under the curve on average, and in all but one of ten draws of the noise.

    `error` is the length of the expected error of the class direction over the length of the direction itself: at 1
    there is as much noise as signal. It speaks of the direction before shares are divided out.
    """

    auc: float
    low: float
    error: float


@dataclass(frozen=True, eq=False)
class _Learnt:
    """Of one record: eta, the covariance (K, K) of class sums in one coordinate, that of shares, and whether the code
    loses the classes' common part."""

    left: float
    sums: Floats
    shares: Floats | None
    centred: bool


def predict(
    release: ReleaseSpec, population: Population, records: int, outputs: NDArray[np.floating] | None = None
) -> Prediction:
    """Expected AUC of the classifier learnt from `records` records of a release, on X-rays of the same population.

    `outputs`, (n, k), are encoder outputs of *public* X-rays: where given, what a clip leaves is measured on them;
    where not, it is computed for standard normal ones. With more than two classes the area is the mean over pairs.

    Raises:
        ParameterError: no number of records from 1 on, a prevalence of another number of classes than the release, or
            outputs of another dimension.
    """
    if not 1 <= records < math.inf:
        raise ParameterError(f"a classifier needs at least 1 record; found {records}")
    if len(population.prevalence) != release.classes:
        raise ParameterError(
            f"the release has {release.classes} labels and the prevalence {len(population.prevalence)} shares"
        )
    dimension = release.input_dimension
    if outputs is not None and (outputs.ndim != 2 or outputs.shape[1] != dimension or not len(outputs)):
        raise ParameterError(f"the release takes {dimension} numbers of an X-ray; found public outputs {outputs.shape}")
    learnt = _learnt(release, population, outputs)
    means = population.means(dimension)
    areas, weights, error = [], [], 0.0
    pairs = _pairs(population.prevalence)
    for (a, b), share in pairs.items():
        sure, noise = _direction(learnt, population, means, (a, b), np.ones(2))
        error += share * math.sqrt(dimension * noise / records) / float(np.linalg.norm(sure))
        for estimated, weight in _estimated_shares(learnt, population, records, (a, b)):
            signal, variance = _direction(learnt, population, means, (a, b), estimated)
            axis = (means[a] - means[b]) / population.distance
            along = float(signal @ axis)
            across = math.sqrt(max(0.0, float(signal @ signal) - along**2))
            area, mass = _areas(along, across, math.sqrt(variance / records), dimension, population)
            areas.append(area)
            weights.append(mass * weight * share)
    values, mass = np.concatenate(areas), np.concatenate(weights)
    order = np.argsort(values)
    tenth = min(int(np.searchsorted(np.cumsum(mass[order]), 0.1 * mass.sum())), len(values) - 1)
    return Prediction(float(values @ mass / mass.sum()), float(values[order][tenth]), error)


def _learnt(release: ReleaseSpec, population: Population, outputs: NDArray[np.floating] | None) -> _Learnt:
    if isinstance(release, LatentSpec | DpGlowSpec):
        return _of_two_parts(release, population, outputs)
    classes, shares = release.classes, np.array(population.prevalence)
    constant = None if release.constant is None else float(release.constant)
    if isinstance(release, JointCodebookSpec):
        # A decoded record has the length 1/m whatever it stands for: signal and noise together.
        every = 1 / decode_constant(release.codebook) ** 2 / release.codebook.dimension
        left = _left_of_direction(release.bottleneck_dimension, outputs)
        noise, spread = every, 0.0
        scale = 1.0 if constant is None else 1 - constant**2
    else:
        left, spread = _left_in_joint_ball(release, population, outputs)
        noise, scale = noise_variance(release.laplace), 1.0
    if release.label_code == "one_hot":
        sums, share_noise = np.diag(noise / scale + spread * shares), noise * np.eye(classes)
    else:
        contrast = (classes - 1) / classes * (np.eye(classes) - 1 / classes)
        sums, share_noise = (noise / scale + spread / (classes - 1)) * contrast, noise * contrast
    if constant is None:
        return _Learnt(left, sums, None, centred=True)
    drawn = 0.0 if isinstance(release, JointCodebookSpec) else np.diag(shares) - np.outer(shares, shares)
    return _Learnt(left, sums, share_noise / constant**2 + drawn, centred=release.label_code == "simplex")


def _of_two_parts(
    release: LatentSpec | DpGlowSpec, population: Population, outputs: NDArray[np.floating] | None
) -> _Learnt:
    clip, shares = release.laplace.clip, np.array(population.prevalence)
    length = float(clip.largest_steps * release.laplace.grid)
    if isinstance(release, DpGlowSpec):
        left, spread = _box(length) if outputs is None else _measured(np.clip(outputs, -length, length), outputs)
    else:
        left, spread = _ball(release.laplace.dimension, length, outputs)
    second = _indicators(release.label, shares)
    return _Learnt(
        left, second * (spread + noise_variance(release.laplace)), second - np.outer(shares, shares), centred=False
    )


def _indicators(label: RandomizedResponseSpec, shares: Floats) -> Floats:
    """E[i_a i_b] of the unbiased indicators i_y = ([answer = y] - q) / (p - q) of a randomized label. Shape (K, K)."""
    keep = label.threshold / 2**64
    other = (1 - keep) / (label.classes - 1)
    values = (np.eye(label.classes) - other) / (keep - other)  # answer by class
    answers = other + (keep - other) * shares
    second: Floats = values.T @ (answers[:, None] * values)
    return second


def _left_of_direction(dimension: int, outputs: NDArray[np.floating] | None) -> float:
    """eta of z / |z|: E|z| / E|z|^2."""
    if outputs is not None:
        length = np.linalg.norm(np.asarray(outputs, dtype=float), axis=1)
        return float(length.mean() / np.mean(length**2))
    return math.sqrt(2) * math.exp(math.lgamma((dimension + 1) / 2) - math.lgamma(dimension / 2)) / dimension


def _left_in_joint_ball(
    release: JointLaplaceSpec, population: Population, outputs: NDArray[np.floating] | None
) -> tuple[float, float]:
    """eta and E|f|^2 / k of features clipped with their label's code: a code's L1 norm takes its part of the radius."""
    radius = float(release.laplace.clip.largest_steps * release.laplace.grid)
    constant = 0.0 if release.constant is None else float(release.constant)
    codes = np.abs(label_codes(release.label_code, release.classes)).sum(axis=1)
    parts = np.array([_ball(release.bottleneck_dimension, radius / norm - constant, outputs) for norm in codes])
    left, spread = np.array(population.prevalence) @ parts
    return float(left), float(spread)


def _ball(dimension: int, radius: float, outputs: NDArray[np.floating] | None) -> tuple[float, float]:
    """eta and E|f|^2 / k of f = z min(1, R / |z|_1)."""
    if outputs is None:
        return _normal_ball(dimension, radius)
    norm = np.abs(outputs).sum(axis=1, keepdims=True)
    return _measured(outputs * np.minimum(1, radius / np.maximum(norm, 1e-12)), outputs)


def _measured(features: NDArray[np.floating], outputs: NDArray[np.floating]) -> tuple[float, float]:
    return float(np.sum(features * outputs) / np.sum(outputs**2)), float(np.mean(features**2))


@lru_cache(maxsize=512)
def _normal_ball(dimension: int, radius: float) -> tuple[float, float]:
    """The same for standard normal z: one coordinate apart, the others' L1 norm by its characteristic function."""
    others = dimension - 1
    step = (0.8 * others + 12 * math.sqrt(others) + 12) / _CELLS
    half = np.diff(2 * _phi(np.arange(_CELLS + 1) * step) - 1)
    # Cell i stands for (i + 1/2) steps, so a sum of n cells for (sum + n/2).
    mass = np.clip(np.fft.irfft(np.fft.rfft(half / half.sum()) ** others, _CELLS), 0, None)
    rest = np.arange(_CELLS) * step + others * step / 2
    z = np.linspace(0.02, 6, 300) - 0.01
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    shrink = np.minimum(1, radius / (z[:, None] + rest[None, :]))  # (300, cells)
    inner = weight * z**2
    mass = mass / mass.sum()
    return float(inner @ (shrink @ mass)), float(inner @ (shrink**2 @ mass))


def _box(bound: float) -> tuple[float, float]:
    """eta and E f^2 of a standard normal coordinate clipped to [-c, c]."""
    inside = 2 * _NORMAL.cdf(bound) - 1
    return inside, inside - 2 * bound * _NORMAL.pdf(bound) + bound**2 * (1 - inside)


def _pairs(prevalence: tuple[float, ...]) -> dict[tuple[int, int], float]:
    """Pairs of classes with the share of all pairs that they stand for: those of equal prevalence are alike."""
    found: dict[tuple[float, float], tuple[int, int]] = {}
    count: dict[tuple[int, int], int] = {}
    for a in range(len(prevalence)):
        for b in range(a):
            low, high = sorted((prevalence[a], prevalence[b]))
            pair = found.setdefault((low, high), (a, b))
            count[pair] = count.get(pair, 0) + 1
    return {pair: number / sum(count.values()) for pair, number in count.items()}


def _direction(
    learnt: _Learnt, population: Population, means: Floats, pair: tuple[int, int], estimated: Floats
) -> tuple[Floats, float]:
    """Expected w, and N times the variance of its noise in one coordinate."""
    weights = np.array([1.0, -1.0]) / estimated
    sums = learnt.left * np.array(population.prevalence)[:, None] * means
    if learnt.centred:
        sums = sums - sums.mean(axis=0)
    chosen = list(pair)
    return weights @ sums[chosen], float(weights @ learnt.sums[np.ix_(chosen, chosen)] @ weights)


def _estimated_shares(
    learnt: _Learnt, population: Population, records: int, pair: tuple[int, int]
) -> list[tuple[Floats, float]]:
    """Values of the two estimated shares, brought into 1/N .. 1 as training does, with their weights."""
    if learnt.shares is None:
        return [(np.ones(2), 1.0)]
    chosen = list(pair)
    values, vectors = np.linalg.eigh(learnt.shares[np.ix_(chosen, chosen)] / records)
    root = vectors * np.sqrt(np.maximum(values, 0))
    nodes, weights = _normal_nodes(9)
    shares = np.array(population.prevalence)[chosen]
    return [
        (np.clip(shares + root @ np.array([x, y]), 1 / records, 1), float(p * q))
        for x, p in zip(nodes, weights, strict=True)
        for y, q in zip(nodes, weights, strict=True)
    ]


def _areas(along: float, across: float, noise: float, dimension: int, population: Population) -> tuple[Floats, Floats]:
    """Areas under the curve over the noise of the direction, and their weights: both flat."""
    # With one coordinate the area jumps where the sign turns: a jump needs many nodes, and they cost nothing here.
    nodes, weights = _normal_nodes(41 if dimension > 1 else 2_001)
    first, first_weight = along + noise * nodes, weights
    squares: NDArray[np.floating] = np.zeros(1)
    square_weight: NDArray[np.floating] = np.ones(1)
    if dimension > 1 and across > 0:
        nodes, weights = _normal_nodes(9)
        lengths, length_weight = _chi(dimension - 2)
        squares = ((across + noise * nodes) ** 2)[:, None] + (noise * lengths) ** 2
        squares, square_weight = squares.ravel(), np.outer(weights, length_weight).ravel()
    elif dimension > 1:
        lengths, square_weight = _chi(dimension - 1)
        squares = (noise * lengths) ** 2
    spread = np.sqrt(2 * (population.within * first[:, None] ** 2 + squares[None, :]))
    argument = population.distance * first[:, None] / np.maximum(spread, 1e-300)
    return _phi(argument).ravel(), np.outer(first_weight, square_weight).ravel()


@lru_cache(maxsize=8)
def _normal_nodes(count: int) -> tuple[Floats, Floats]:
    nodes: Floats = np.linspace(-4, 4, count)
    weights: Floats = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


@lru_cache(maxsize=64)
def _chi(freedom: int) -> tuple[Floats, Floats]:
    """Lengths of a standard normal vector of so many coordinates, and their weights."""
    if freedom == 0:
        return np.zeros(1), np.ones(1)
    start = max(0.0, math.sqrt(freedom) - 4)
    step = (math.sqrt(freedom) + 4 - start) / _LENGTHS
    lengths: Floats = start + (np.arange(_LENGTHS, dtype=np.float64) + 0.5) * step
    density = (freedom - 1) * np.log(lengths) - lengths**2 / 2
    weights: Floats = np.exp(density - density.max())
    return lengths, weights / weights.sum()


_TABLE = np.linspace(-9, 9, 18_001)
_TABLE_PHI = np.array([_NORMAL.cdf(float(x)) for x in _TABLE])


def _phi(values: NDArray[np.floating]) -> Floats:
    """The normal distribution function, to 2e-7."""
    looked_up: Floats = np.interp(values, _TABLE, _TABLE_PHI)
    return looked_up
