"""Which release to ask for, what it will be worth, and when a campaign cannot work: advice that costs no epsilon.

Everything here follows from public numbers. How well a classifier would do *without* noise is the one number that
nobody knows beforehand: `SCENARIOS` says it for an easy, a usual and a hard finding, and a campaign's author may say
another. It is always printed beside the prediction that rests on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.fault import shown
from ldp_client.privacy.labels import LabelCode, code_dimension, label_codes
from ldp_client.privacy.loss import ExactNumber, exact
from ldp_client.privacy.prediction import Population, Prediction, predict
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, ReleaseSpec
from ldp_client.privacy.spec import MAX_CODEBOOK_DIMENSION, MAX_DIMENSION

SCENARIOS: dict[str, float] = {"hard": 0.7, "usual": 0.8, "easy": 0.9}
"""AUC without noise, where nothing better is known: hard findings, usual ones, easy ones."""

CHANCE, LITTLE, LOSS = 0.55, 0.5, 0.03
"""An AUC below .55 is called chance; below half of what there was to learn, little; within .03 of it, nearly all."""

TIE = 0.005
"""Two predictions that are as near as this count as equal."""
_CODES: tuple[tuple[str, LabelCode, Fraction | None], ...] = (
    ("simplex", "simplex", None),
    ("simplex with a constant", "simplex", Fraction(1, 2)),
    ("one_hot", "one_hot", Fraction(1, 2)),
)


@dataclass(frozen=True)
class Candidate:
    """One release that could be asked for, and its name in tables."""

    name: str
    release: ReleaseSpec


@dataclass(frozen=True)
class Row:
    """A candidate and what to expect of it."""

    candidate: Candidate
    prediction: Prediction


@dataclass(frozen=True)
class Advice:
    """All candidates, the best first, and the population that they were compared for."""

    rows: tuple[Row, ...]
    population: Population
    records: int

    @property
    def recommended(self) -> Row:
        """The one with the largest expected AUC; of those within .005 of it, the one with the fewest coordinates."""
        best = self.rows[0].prediction.auc
        near = [row for row in self.rows if row.prediction.auc >= best - TIE]
        return min(near, key=lambda row: coordinates(row.candidate.release))

    @property
    def at_chance(self) -> bool:
        """Whether even the best of them would learn nothing."""
        return self.rows[0].prediction.auc < CHANCE

    def sentences(self) -> list[str]:
        """The recommendation in words, and what cannot work."""
        chosen = self.recommended
        release, prediction = chosen.candidate.release, chosen.prediction
        words = verdict(release, self.population, self.records, prediction)
        if self.at_chance:
            return [words, "no mechanism does better: gather more records, or ask for fewer coordinates"]
        return [f"recommended: {chosen.candidate.name}", words]


def coordinates(release: ReleaseSpec) -> int:
    """How many noised numbers one record estimates, label included."""
    if isinstance(release, JointLaplaceSpec | JointCodebookSpec):
        return release.joint_dimension
    return release.laplace.dimension + release.classes


def candidates(
    *, epsilon: ExactNumber, classes: int, dimension: int, latents: int | None = None
) -> tuple[Candidate, ...]:
    """The releases that are compared at one total epsilon.

    Joint codebook and joint Laplace with each label code (`simplex`, `simplex` with a constant, `one_hot`), Laplace at
    the radii 1, k/4 and k/2; a constant is half of the unit vector, or of the radius over the longest code's L1 norm,
    rounded up. What would have more coordinates than a record can hold is left out. `latent` at the radius 1 with half
    of epsilon for the label, and `dp_glow` where the number of latents is given.

    Raises:
        ParameterError: epsilon is not positive or not exact, or a number is out of range.
    """
    if not 1 <= dimension <= MAX_DIMENSION:
        raise ParameterError(f"a record holds 1 to {MAX_DIMENSION:,} coordinates; found {dimension:,}")
    common: dict[str, Any] = {"epsilon": epsilon, "classes": classes}
    found, quarter = [], Fraction(dimension, 4)
    for label, code, constant in _CODES:
        joint: dict[str, Any] = {**common, "bottleneck_dimension": dimension, "label_code": code}
        if code_dimension(code, classes) * (dimension + 1) <= MAX_CODEBOOK_DIMENSION:
            found.append(Candidate(f"joint codebook, {label}", joint_codebook(**joint, constant=constant)))
        if code_dimension(code, classes) * (dimension + 1) > MAX_DIMENSION:
            continue
        # Beside a simplex vertex of L1 norm |a| a constant c takes c |a| of the radius.
        norm = math.ceil(float(np.abs(label_codes(code, classes)).sum(axis=1).max()) - 1e-9)
        for radius in sorted({max(Fraction(1), radius) for radius in (Fraction(1), quarter, 2 * quarter)}):
            whole = radius if constant is None else 2 * radius
            named = f"joint Laplace radius {whole}, {label}"
            release = joint_laplace(
                **joint, radius=whole, constant=None if constant is None else whole * constant / norm
            )
            found.append(Candidate(named, release))
    half = {**common, "label_epsilon": exact("epsilon", epsilon) / 2}
    found.append(Candidate("latent radius 1", latent(**half, bottleneck_dimension=dimension, radius=1)))
    if latents is not None:
        found.append(Candidate("dp_glow", dp_glow(**half, latents=latents)))
    return tuple(found)


def advise(
    population: Population,
    records: int,
    *,
    epsilon: ExactNumber,
    dimension: int,
    latents: int | None = None,
    outputs: NDArray[np.floating] | None = None,
) -> Advice:
    """Compare all candidates for a population and an expected number of records.

    `outputs` are encoder outputs (n, k) of public X-rays, as in `predict`. For `dp_glow` the assumed AUC without noise
    is taken to be the same on the latents as on the bottleneck.

    Raises:
        ParameterError: as `candidates` and `predict`.

    >>> advice = advise(Population(0.9, (0.5, 0.5)), 500, epsilon=1, dimension=1024)
    >>> advice.sentences()[0]
    'at epsilon 1 with 500 records and 1,024 coordinates the classifier would be at chance (AUC 0.50 expected)'
    """
    classes = len(population.prevalence)
    rows = [
        Row(
            candidate,
            predict(
                candidate.release,
                population,
                records,
                None if isinstance(candidate.release, DpGlowSpec) else outputs,
            ),
        )
        for candidate in candidates(epsilon=epsilon, classes=classes, dimension=dimension, latents=latents)
    ]
    return Advice(tuple(sorted(rows, key=lambda row: -row.prediction.auc)), population, records)


def campaign_keys(release: ReleaseSpec) -> dict[str, str | int]:
    """The keys of a campaign.toml that ask for this release, besides epsilon and labels."""
    keys: dict[str, str | int] = {"mechanism": release.kind}
    if not isinstance(release, DpGlowSpec):
        keys["coordinates"] = release.input_dimension
    if isinstance(release, JointLaplaceSpec | JointCodebookSpec):
        keys["label_code"] = release.label_code
        if release.constant is not None:
            keys["constant"] = str(release.constant)
        if isinstance(release, JointCodebookSpec):
            return keys
    if not isinstance(release, JointLaplaceSpec):
        keys["label_epsilon"] = str(release.label.loss)
    length = release.laplace.clip.largest_steps * release.laplace.grid
    keys["bound" if isinstance(release, DpGlowSpec) else "radius"] = str(length)
    return keys


def verdict(release: ReleaseSpec, population: Population, records: int, prediction: Prediction) -> str:
    """One sentence: what the classifier would be worth."""
    place = (
        f"at epsilon {release.loss} with {records:,} record{'s' if records != 1 else ''} and "
        f"{release.input_dimension:,} coordinate{'s' if release.input_dimension != 1 else ''} the classifier would"
    )
    auc = prediction.auc
    if auc < CHANCE:
        return f"{place} be at chance (AUC {auc:.2f} expected)"
    if auc - 0.5 < LITTLE * (population.auc - 0.5):
        how = "learn little"
    elif auc < population.auc - LOSS:
        how = "work, with a loss"
    else:
        how = "work nearly as well as without noise"
    # A floor is rounded down: .696 is not above .70.
    low = math.floor(100 * prediction.low) / 100
    return (
        f"{place} {how}: AUC {auc:.2f} expected, above {low:.2f} nine times in ten, {population.auc:.2f} without noise"
    )


def prevalence(text: str | None, classes: int | None = None) -> tuple[float, ...]:
    """The share of each label, as it is typed: 0.75,0.25. Without it all labels are equally frequent, two if not said.

    Raises:
        ParameterError: not such a list, another number of labels than `classes`, or fewer than 2.
    """
    if text is None:
        count = 2 if classes is None else classes
        if count < 2:
            raise ParameterError(f"a campaign has at least 2 labels; found {count}")
        return (1 / count,) * count
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ParameterError(f"a prevalence is written as shares such as 0.75,0.25; found {shown(text)}") from None
    if classes not in (None, len(shares)):
        raise ParameterError(f"{classes} labels need as many shares of a prevalence; found {len(shares)}")
    return shares
