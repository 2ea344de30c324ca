"""How frequent each label is among public X-rays that nobody labelled, as far as hospitals' records tell.

Where public and hospital X-rays differ in nothing but how frequent the labels are (label shift), the mean of the public
X-rays' features is the same mixture of the classes' means that the public X-rays are of the classes:

    m  =  sum_y  p_y mu_y

The records estimate every mu_y, as what they say of its sum over a share that they estimate too, with an error whose
covariance is seen in the records themselves; m is known. So each p has a residual r(p) = m - sum_y p_y mu_y, normal
with mean 0 and covariance C(p) where p is true, and with p uniform beforehand a posterior. C is itself estimated, from
N records for K k numbers, so r has Student's t with N - K k degrees of freedom in place of the normal distribution, and
its squared length for the best p an F distribution in place of chi squared. No formula gives the posterior's mean and
deviation: shares are drawn from it, by a generator whose seed is fixed. Moments matched as in Saerens, Latinne and
Decaestecker (Neural Computation 14, 2002) and Lipton, Wang and Smola (ICML 2018), with the records' noise in the
likelihood. It costs no epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import f

from ldp_client.errors import ParameterError, WaitingError
from ldp_client.privacy.release_spec import JointCodebookSpec, JointLaplaceSpec, LatentSpec, ReleaseSpec
from server.learning.student import LEAST_SHARE, Shares
from server.learning.train import TrainingSet, carried, class_moments, clipped

Floats = NDArray[np.float64]
Telling = JointCodebookSpec | JointLaplaceSpec | LatentSpec
RARE, FAR = 0.01, 0.25
"""Beyond both, public X-rays are no mixture of what hospitals' records speak of."""
RECORDS_FOR_EACH = 8
"""So many records for each number of the classes' means; fewer do not show how uncertain these are."""
_DRAWS, _LAST = 500, 10
"""So many shares are drawn at once; they are moved K times at each step, and this many times K at the last."""


@dataclass(frozen=True)
class PublicShares:
    """What records say of public X-rays.

    Attributes:
        shares: of the labels among them.
        off: how far their mean lies from every mixture of the classes' means, beyond what noise explains, as a part of
            how far the classes lie from each other; 0 where noise hides that.
        chance: with which it would lie so far off all the same if they were such a mixture.
    """

    shares: Shares
    off: float
    chance: float

    @property
    def is_mixture(self) -> bool:
        """Whether public X-rays can be taken for a mixture of the labels, which is what a student does."""
        return self.chance > RARE or self.off < FAR

    def of_a_mixture(self, label_names: Sequence[str]) -> Shares:
        """The shares.

        Raises:
            ParameterError: public X-rays are no mixture of the labels.
        """
        if self.is_mixture:
            return self.shares
        raise ParameterError(
            f"the public X-rays are no mixture of {', '.join(label_names)}: their mean lies {100 * self.off:.0f} % of "
            "the labels' distance off every mixture of what the records say of them. Give X-rays of the hospitals' "
            "kind, or leave the student out; shares that are given (as in --public-shares 0.3,0.7) are not checked"
        )


def public_shares(records: TrainingSet, public: Floats) -> PublicShares:
    """Each label's share among public X-rays: the posterior's mean, raised as `Shares.estimated` does, and the root of
    the mean square of how far the posterior lies from that.

    Args:
        records: of a release that carries each class's mean: `one_hot` with a constant, or a vector and a label.
        public: coordinates (N, D) of the public X-rays, D at least the release's k.

    Raises:
        ParameterError: the release does not tell the classes' means apart, too many labels, too few coordinates or
            X-rays, or X-rays that are all alike.
        WaitingError: too few records to see how far they scatter.
    """
    spec = records.release
    if not tells_classes(spec):
        raise untold()
    if spec.classes * LEAST_SHARE > 1:
        raise ParameterError(
            f"the shares of {spec.classes} labels are not estimated: each is taken to be {100 * LEAST_SHARE:.0f} % or "
            f"more, which is true of {1 / LEAST_SHARE:.0f} labels at most. Give the shares, as in --public-shares with "
            "a number for each label, or leave the student out"
        )
    if public.ndim != 2 or public.shape[1] < spec.input_dimension or len(public) < 2:
        raise ParameterError(
            f"the release takes {spec.input_dimension} coordinates of an X-ray; public ones have shape {public.shape}"
        )
    learnt = spec.classes * spec.input_dimension
    if len(records.vectors) < RECORDS_FOR_EACH * learnt:
        raise WaitingError(
            f"found {len(records.vectors)} records; to estimate the shares of {spec.classes} labels from "
            f"{spec.input_dimension} coordinates takes {RECORDS_FOR_EACH * learnt}: gather more first, or give the "
            "shares, as in --public-shares 0.3,0.7"
        )
    features = _as_released(spec, public[:, : spec.input_dimension])
    if not features.std(0).max() > 1e-9:  # features are of length 1 or less
        raise ParameterError(
            f"these {len(public)} public X-rays are all alike to the encoder, so they say nothing of how frequent "
            "labels are among such; give other ones"
        )
    told_labels, weight = carried(spec, np.eye(spec.classes))
    parts = records.vectors.reshape(len(records.vectors), spec.classes, -1)  # (N, K, 1 + k)
    ones, sums = parts[:, :, 0] / np.diag(told_labels), parts[:, :, 1:] / weight
    moments = class_moments(records)
    if moments is None:
        raise untold()
    shares = Shares.told_by(moments).mean  # among hospitals' X-rays
    means = sums.mean(0) / shares[:, None]  # (K, k)
    influence = ((sums - means * ones[:, :, None]) / shares[:, None]).reshape(len(parts), learnt)  # on each mean
    spread = (influence.T @ influence / len(parts) ** 2).reshape(*means.shape, *means.shape)  # (K, k, K, k)
    own = np.cov(features, rowvar=False).reshape(features.shape[1], -1) / len(features)
    mixtures = _Mixtures(features.mean(0), own, means, spread, len(parts) - learnt)
    found = _posterior(mixtures.log_likelihood, spec.classes)
    stated = Shares.estimated(found.mean(0), found.std(0)).mean
    deviation: Floats = np.sqrt(((found - stated) ** 2).mean(0))
    best = mixtures.nearest(found)
    return PublicShares(Shares(stated, deviation), mixtures.off(best), mixtures.chance(best))


def tells_classes(spec: ReleaseSpec) -> TypeGuard[Telling]:
    """Whether records of this kind estimate each class's mean without supposing anything of the others."""
    if isinstance(spec, JointCodebookSpec | JointLaplaceSpec):
        return spec.constant is not None and spec.label_code == "one_hot"
    return isinstance(spec, LatentSpec)


def untold() -> ParameterError:
    """What is wrong where a release does not, and the ways out."""
    return ParameterError(
        "these records do not tell how frequent the labels are among the public X-rays. Say it: `--public-shares "
        "hospitals` where public and hospital X-rays are drawn alike, or the shares themselves, as in "
        '`--public-shares 0.3,0.7`; or ask for `label_code = "one_hot"` with `constant = "7/10"` in the next '
        "campaign.toml"
    )


def _as_released(spec: Telling, outputs: Floats) -> Floats:
    """The features of X-rays as a record would have carried them but for the noise: clipped, or of length 1."""
    parts = clipped(spec, outputs, 0).reshape(len(outputs), spec.classes, -1)  # of the label's code, the first alone
    return parts[:, 0, 1:] / carried(spec, np.eye(spec.classes))[1]


@dataclass(frozen=True, eq=False)
class _Mixtures:
    """How far public X-rays lie from each mixture of the classes' means, and how far they may.

    Attributes:
        centre: m (k,), the mean of the public X-rays' features.
        own: (k, k), the covariance of its error.
        means: (K, k), of each class.
        spread: (K, k, K, k), the covariance of their errors.
        freedom: with which that was estimated.
    """

    centre: Floats
    own: Floats
    means: Floats
    spread: Floats
    freedom: int

    def log_likelihood(self, shares: Floats) -> Floats:
        """Of each of the shares (M, K), up to a constant: Student's t of the residual."""
        residual, covariance = self._residual(shares)
        tail = (self.freedom + len(self.centre)) * np.log1p(_squared_length(residual, covariance) / self.freedom)
        likely: Floats = -(tail + np.linalg.slogdet(covariance)[1]) / 2
        return likely

    def nearest(self, drawn: Floats) -> Floats:
        """The shares (K,) whose r^T C^-1 r is least, sought from the best of the draws (M, K) in their deviations."""
        classes, start = drawn.shape[1], drawn[_squared_length(*self._residual(drawn)).argmin()]
        _, lengths, axes = np.linalg.svd(drawn - drawn.mean(0), full_matrices=False)
        steps = axes[: classes - 1].T * lengths[: classes - 1] / math.sqrt(len(drawn))  # (K, K-1), none moves the sum
        found = minimize(
            lambda at: self._strange(start + steps @ at),
            np.zeros(classes - 1),
            jac=lambda at: self._slope(start + steps @ at) @ steps,
            method="SLSQP",
            constraints={
                "type": "ineq",
                "fun": lambda at: start + steps @ at - _least(classes),
                "jac": lambda _: steps,
            },
            options={"maxiter": 200},
        )
        best: Floats = min(start, start + steps @ found.x, key=self._strange)
        return best

    def chance(self, best: Floats) -> float:
        """With which even the best shares (K,) would leave a residual as long as this, in its own deviations."""
        free = len(self.centre) - len(best) + 1
        return float(f.sf(self._strange(best) / free, free, self.freedom)) if free > 0 else 1.0

    def off(self, best: Floats) -> float:
        """Their residual as a part of the classes' distance from their centre, both less what noise adds."""
        residual, covariance = self._residual(best[None])
        noise = np.einsum("ykyk->", self.spread) - np.einsum("ykzk->", self.spread) / len(best)
        apart = ((self.means - self.means.mean(0)) ** 2).sum() - noise
        beyond = (residual**2).sum() - np.trace(covariance[0])
        return math.sqrt(max(beyond, 0.0) / apart) if apart > 0 else 0.0

    @cached_property
    def _pairs(self) -> Floats:
        """(K K, k k): what each product of two shares adds to C."""
        return self.spread.transpose(0, 2, 1, 3).reshape(len(self.means) ** 2, -1)

    def _residual(self, shares: Floats) -> tuple[Floats, Floats]:
        """r(p), (M, k), and C(p), (M, k, k)."""
        products = (shares[:, :, None] * shares[:, None, :]).reshape(len(shares), -1)
        return self.centre - shares @ self.means, (products @ self._pairs).reshape(-1, *self.own.shape) + self.own

    def _strange(self, one: Floats) -> float:
        """r^T C^-1 r at shares (K,)."""
        return float(_squared_length(*self._residual(one[None]))[0])

    def _slope(self, one: Floats) -> Floats:
        """The gradient of that at shares (K,): -2 (mu_y w + sum_z p_z w^T C_yz w), where w is C^-1 r."""
        residual, covariance = self._residual(one[None])
        pull = np.linalg.solve(covariance[0], residual[0])
        slope: Floats = -2 * (self.means @ pull + np.einsum("k,ykzl,l,z->y", pull, self.spread, pull, one))
        return slope


def _squared_length(residual: Floats, covariance: Floats) -> Floats:
    """r^T C^-1 r of each (M, k) and (M, k, k)."""
    squared: Floats = (residual * np.linalg.solve(covariance, residual[:, :, None])[:, :, 0]).sum(1)
    return squared


def _least(classes: int) -> float:
    """Below it no share is weighed; all of them together leave 1 - `LEAST_SHARE` to be told."""
    return LEAST_SHARE / classes


def _posterior(log_likelihood: Callable[[Floats], Floats], classes: int) -> Floats:
    """Shares (M, K) drawn from the posterior of uniform ones, however narrow it is.

    `_DRAWS` uniform ones are weighed by a power of the likelihood that grows to 1, at each step as far as half of them
    go on counting; then they are drawn anew by weight and moved by Metropolis's rule, along the difference of two of
    them: sequential Monte Carlo (Del Moral, Doucet and Jasra, J. R. Statist. Soc. B 68, 2006) with the moves of ter
    Braak (Statistics and Computing 16, 2006).
    """
    generator, least = np.random.default_rng(0), _least(classes)
    points = least + (1 - classes * least) * generator.dirichlet(np.ones(classes), _DRAWS)
    likely, power, kept = log_likelihood(points), 0.0, []
    while power < 1:
        step = _step(likely, 1 - power)
        power = min(power + step, 1.0)
        weight = np.exp(step * (likely - likely.max()))
        places = (np.arange(_DRAWS) + generator.random()) / _DRAWS
        chosen = np.searchsorted(weight.cumsum() / weight.sum(), places).clip(max=_DRAWS - 1)
        points, likely = points[chosen], likely[chosen]
        others, length = points, 2.38 / math.sqrt(2 * (classes - 1))
        for move in range(classes * (_LAST if power == 1 else 1)):
            ends = generator.integers(_DRAWS, size=(2, _DRAWS))
            moved = points + length * (others[ends[0]] - others[ends[1]])
            inside = moved.min(1) >= least
            told = np.full(_DRAWS, -np.inf)
            told[inside] = log_likelihood(moved[inside])
            taken = np.log(generator.random(_DRAWS)) < power * (told - likely)
            points, likely = np.where(taken[:, None], moved, points), np.where(taken, told, likely)
            length *= math.exp(taken.mean() - 0.25)
            if power == 1 and move % classes == classes - 1:
                kept.append(points)
    return np.concatenate(kept)


def _step(likely: Floats, most: float) -> float:
    """The largest power, `most` at most, of likelihoods as weights w by which half of the points go on counting:
    (sum w)^2 / sum w^2 is half of how many they are."""

    def counting(power: float) -> float:
        weight = np.exp(power * (likely - likely.max()))
        return float(weight.sum() ** 2 / (weight**2).sum())

    if counting(most) >= len(likely) / 2:
        return most
    low, high = 0.0, most
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if counting(middle) >= len(likely) / 2 else (low, middle)
    return low
