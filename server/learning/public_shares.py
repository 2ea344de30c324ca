"""How frequent each label is among public X-rays that nobody labelled, as far as hospitals' records tell.

Where public and hospital X-rays differ in nothing but how frequent the labels are (label shift), the mean of the public
X-rays' features is the same mixture of the classes' means that the public X-rays are of the classes:

    m  =  sum_y  p_y mu_y

The records estimate every mu_y, as what they say of its sum over a share that they estimate too, with an error whose
covariance is seen in the records themselves; m is known. So each p has a residual r(p) = m - sum_y p_y mu_y, normal
with mean 0 and covariance C(p) where p is true, and with p uniform beforehand a posterior. C is itself estimated, from
N records for K k numbers, so r has Student's t with N - K k degrees of freedom in place of the normal distribution, and
its squared length for the best p an F distribution in place of chi squared. Moments matched as in Saerens, Latinne and
Decaestecker (Neural Computation 14, 2002) and Lipton, Wang and Smola (ICML 2018), with the records' noise in the
likelihood. It costs no epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
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
_CANDIDATES = 1000
"""At most so many shares are weighed: a lattice on all shares, as fine as that allows."""


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
    """The posterior's mean and standard deviation of each label's share among public X-rays.

    Args:
        records: of a release that carries each class's mean: `one_hot` with a constant, or a vector and a label.
        public: coordinates (N, D) of the public X-rays, D at least the release's k.

    Raises:
        ParameterError: the release does not tell the classes' means apart, too few coordinates or X-rays, or X-rays
            that are all alike.
        WaitingError: too few records to see how far they scatter.
    """
    spec = records.release
    if not tells_classes(spec):
        raise untold()
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
    influence = (sums - means * ones[:, :, None]) / shares[:, None]  # of each record on each class's mean
    spread = np.einsum("nyk,nzl->ykzl", influence, influence) / len(parts) ** 2
    own = np.cov(features, rowvar=False).reshape(features.shape[1], -1) / len(features)
    freedom = len(parts) - learnt
    candidates = _lattice(spec.classes)
    likely, strange, beyond = (np.empty(len(candidates)) for _ in range(3))
    for at, one in enumerate(candidates):
        residual = features.mean(0) - one @ means
        covariance = np.einsum("y,ykzl,z->kl", one, spread, one) + own
        strange[at] = residual @ np.linalg.solve(covariance, residual)
        tail = (freedom + features.shape[1]) * np.log1p(strange[at] / freedom)
        likely[at] = -(tail + np.linalg.slogdet(covariance)[1]) / 2
        beyond[at] = residual @ residual - np.trace(covariance)
    posterior = np.exp(likely - likely.max())
    posterior /= posterior.sum()
    mean = posterior @ candidates
    deviation: Floats = np.sqrt(posterior @ (candidates - mean) ** 2)
    free = features.shape[1] - spec.classes + 1
    chance = float(f.sf(strange.min() / free, free, freedom)) if free > 0 else 1.0
    return PublicShares(Shares.estimated(mean, deviation), _off(float(beyond[strange.argmin()]), means, spread), chance)


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


def _off(beyond: float, means: Floats, spread: Floats) -> float:
    """The root of `beyond` as a part of the classes' distance from their centre, both less what noise adds."""
    noise = np.einsum("ykyk->", spread) - np.einsum("ykzk->", spread) / len(means)
    apart = ((means - means.mean(0)) ** 2).sum() - noise
    return math.sqrt(max(beyond, 0.0) / apart) if apart > 0 else 0.0


def _as_released(spec: Telling, outputs: Floats) -> Floats:
    """The features of X-rays as a record would have carried them but for the noise: clipped, or of length 1."""
    parts = clipped(spec, outputs, 0).reshape(len(outputs), spec.classes, -1)  # of the label's code, the first alone
    return parts[:, 0, 1:] / carried(spec, np.eye(spec.classes))[1]


def _lattice(classes: int) -> Floats:
    """Shares (M, K) at equal distances from each other, M at most `_CANDIDATES`, none below `LEAST_SHARE` / 2."""
    fine = 1
    while math.comb(fine + 1 + classes - 1, classes - 1) <= _CANDIDATES and fine < 100:
        fine += 1
    bars = np.array(list(combinations(range(fine + classes - 1), classes - 1)))
    edges = np.column_stack([np.full(len(bars), -1), bars, np.full(len(bars), fine + classes - 1)])
    counts = np.diff(edges, axis=1) - 1  # (M, K), each row sums to `fine`
    least = min(LEAST_SHARE / 2, 1 / (2 * classes))
    lattice: Floats = least + (1 - classes * least) * counts / fine
    return lattice
