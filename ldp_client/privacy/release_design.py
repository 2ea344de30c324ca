"""From what is asked (an epsilon, a size) to the release that costs exactly this, or a refusal with the numbers.

Numbers that privacy rests on are exact: fractions, whole numbers, or text such as 2, 0.5 or 1/3; never floats.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from ldp_client.errors import ParameterError
from ldp_client.privacy.codebook_design import best_codewords, best_subset
from ldp_client.privacy.fault import no_such, shown
from ldp_client.privacy.labels import LabelCode, code_dimension
from ldp_client.privacy.loss import MAX_MICRO_EPSILON, MICRO, ExactNumber, exact
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec
from ldp_client.privacy.spec import (
    MAX_CLASSES,
    MAX_CODEBOOK_DIMENSION,
    MAX_CODEWORDS,
    MAX_DIMENSION,
    MAX_DIRECTION_STEPS,
    MAX_STEPS,
    BoxClip,
    CodebookSpec,
    DirectionClip,
    DiscreteLaplaceSpec,
    L1Clip,
    RandomizedResponseSpec,
    threshold_for,
)

MAX_EPSILON = MAX_MICRO_EPSILON // MICRO
Codewords = int | Literal["auto"]


def joint_laplace(
    *,
    epsilon: ExactNumber,
    classes: int,
    bottleneck_dimension: int,
    radius: ExactNumber,
    grid: ExactNumber = "1/1024",
    label_code: LabelCode = "simplex",
    constant: ExactNumber | None = None,
) -> JointLaplaceSpec:
    """The joint release of total `epsilon` with an L1 ball of `radius` encoder units, in steps of `grid`.

    scale = 2R / epsilon steps, where R is `radius` in whole steps, rounded down.

    Raises:
        ParameterError: epsilon is not positive or not exact, or the radius is below one step.

    >>> joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1).loss
    PrivacyLoss(micro_epsilon=2000000)
    """
    asked = _epsilon(epsilon)
    steps, exact_grid = _whole_steps("radius", radius, grid)
    joint, dimension = _joint(classes, bottleneck_dimension, label_code, constant)
    with no_such("joint release"):
        return JointLaplaceSpec(**joint, laplace=_laplace(asked, L1Clip(radius_steps=steps), dimension, exact_grid))


def joint_codebook(
    *,
    epsilon: ExactNumber,
    classes: int,
    bottleneck_dimension: int,
    label_code: LabelCode = "simplex",
    constant: ExactNumber | None = None,
    codewords: Codewords = "auto",
) -> JointCodebookSpec:
    """The joint release of total `epsilon` by a codebook whose subset gives the smallest error.

    Without a number of codewords it is the smallest power of two whose error is within 1 % of what no number of them
    would improve (`codebook_design.best_codewords`).

    Raises:
        ParameterError: epsilon is not positive or not exact, or the codebook is impossible.

    >>> spec = joint_codebook(epsilon=2, classes=2, bottleneck_dimension=8)
    >>> spec.loss, spec.codebook.codewords, spec.codebook.subset
    (PrivacyLoss(micro_epsilon=2000000), 256, 60)
    """
    asked = _epsilon(epsilon)
    if codewords != "auto":
        _require_whole(codewords=codewords)
        _require_at_most(MAX_CODEWORDS, codewords=codewords)
    joint, dimension = _joint(classes, bottleneck_dimension, label_code, constant)
    if dimension > MAX_CODEBOOK_DIMENSION:
        raise ParameterError(
            f"no such joint release: a codebook has at most {MAX_CODEBOOK_DIMENSION} coordinates; found {dimension}. "
            "Ask for fewer, or for joint_discrete_laplace"
        )
    # In one dimension a direction is a sign.
    best = 2 if dimension == 1 else best_codewords(dimension, float(asked)) if codewords == "auto" else codewords
    with no_such("joint release"):
        subset = best_subset(dimension, best, float(asked))
        book = CodebookSpec(
            clip=DirectionClip(radius_steps=MAX_DIRECTION_STEPS),
            dimension=dimension,
            codewords=best,
            subset=subset,
            threshold=threshold_for(asked, best, subset),
        )
        return JointCodebookSpec(**joint, codebook=book)


def latent(
    *,
    epsilon: ExactNumber,
    label_epsilon: ExactNumber,
    classes: int,
    bottleneck_dimension: int,
    radius: ExactNumber,
    grid: ExactNumber = "1/1024",
) -> LatentSpec:
    """A latent release of total `epsilon`, of which the label takes `label_epsilon` and the vector the rest.

    Raises:
        ParameterError: a number is not exact, or nothing is left for the vector.
    """
    steps, exact_grid = _whole_steps("radius", radius, grid)
    label, rest = _shares(epsilon, label_epsilon, classes)
    _require_dimension(bottleneck_dimension=bottleneck_dimension)
    with no_such("latent release"):
        laplace = _laplace(rest, L1Clip(radius_steps=steps), bottleneck_dimension, exact_grid)
        return LatentSpec(laplace=laplace, label=label)


def dp_glow(
    *,
    epsilon: ExactNumber,
    label_epsilon: ExactNumber,
    classes: int,
    latents: int,
    bound: ExactNumber = 3,
    grid: ExactNumber = "1/1024",
) -> DpGlowSpec:
    """DP-GLOW's release of total `epsilon`: d latents, each clipped to [-bound, bound], Laplace scale 2 bound d / eps.

    Raises:
        ParameterError: a number is not exact, or nothing is left for the latents.
    """
    steps, exact_grid = _whole_steps("bound", bound, grid)
    label, rest = _shares(epsilon, label_epsilon, classes)
    _require_dimension(latents=latents)
    with no_such("dp_glow release"):
        return DpGlowSpec(laplace=_laplace(rest, BoxClip(bound_steps=steps), latents, exact_grid), label=label)


def randomized_response(*, epsilon: ExactNumber, classes: int) -> RandomizedResponseSpec:
    """K-ary randomized response of loss at most `epsilon`: keep with e^eps / (e^eps + K - 1), rounded down to 64 bits.

    Raises:
        ParameterError: epsilon is not positive or not exact, or there are fewer than 2 labels.
    """
    asked = _epsilon(epsilon)
    _require_classes(classes)
    with no_such("randomized response"):
        return RandomizedResponseSpec(classes=classes, threshold=threshold_for(asked, classes, 1))


def _laplace(epsilon: Fraction, clip: L1Clip | BoxClip, dimension: int, grid: Fraction) -> DiscreteLaplaceSpec:
    scale = Fraction(clip.sensitivity_steps(dimension)) / epsilon
    return DiscreteLaplaceSpec(clip=clip, dimension=dimension, scale=scale, grid=grid)


def _joint(
    classes: int, bottleneck_dimension: int, label_code: LabelCode, constant: ExactNumber | None
) -> tuple[dict[str, Any], int]:
    """What both joint releases have in common, and how many coordinates a_y (x) f has."""
    _require_classes(classes)
    _require_dimension(bottleneck_dimension=bottleneck_dimension)
    common: dict[str, Any] = {
        "label_code": label_code,
        "constant": None if constant is None else exact("constant", constant),
        "classes": classes,
        "bottleneck_dimension": bottleneck_dimension,
    }
    return common, code_dimension(label_code, classes) * (bottleneck_dimension + (constant is not None))


def _shares(epsilon: ExactNumber, label_epsilon: ExactNumber, classes: int) -> tuple[RandomizedResponseSpec, Fraction]:
    """The label's mechanism, and what it leaves of epsilon: the two rounded losses add up to the whole."""
    asked = _epsilon(epsilon)
    label = randomized_response(epsilon=exact("label_epsilon", label_epsilon), classes=classes)
    rest = asked - Fraction(label.loss.micro_epsilon, MICRO)
    if rest <= 0:
        raise ParameterError(
            f"the label takes epsilon {label.loss} of {asked} and leaves nothing for the X-ray; give it less"
        )
    return label, rest


def _epsilon(epsilon: ExactNumber) -> Fraction:
    asked = exact("epsilon", epsilon)
    if asked <= 0:
        raise ParameterError(f"epsilon must be positive; found {shown(asked)}. Without noise there is no release")
    if not Fraction(1, MICRO) <= asked <= MAX_EPSILON:
        raise ParameterError(
            f"epsilon must be at least a millionth, in which the ledger counts, and at most {MAX_EPSILON}; "
            f"found {shown(asked)}"
        )
    return asked


def _require_classes(classes: int) -> None:
    _require_whole(classes=classes)
    if classes < 2:
        raise ParameterError(f"a release needs at least 2 labels; found {classes}")
    _require_at_most(MAX_CLASSES, classes=classes)


def _require_dimension(**counts: int) -> None:
    _require_whole(**counts)
    _require_at_most(MAX_DIMENSION, **counts)


def _require_whole(**counts: int) -> None:
    for name, value in counts.items():
        if type(value) is not int or value < 1:
            raise ParameterError(f"{name} must be a whole number from 1 on, without quotes; found {shown(value)}")


def _require_at_most(most: int, **counts: int) -> None:
    for name, value in counts.items():
        if value > most:
            raise ParameterError(f"{name} must be at most {most}; found {shown(value)}; ask for fewer")


def _whole_steps(name: str, length: ExactNumber, grid: ExactNumber) -> tuple[int, Fraction]:
    exact_length, exact_grid = exact(name, length), exact("grid", grid)
    if exact_grid <= 0 or exact_length < exact_grid:
        raise ParameterError(
            f"the {name} must hold at least one grid step; found {name} {exact_length} and grid {exact_grid}"
        )
    steps = int(exact_length // exact_grid)
    if steps > MAX_STEPS:
        raise ParameterError(f"the {name} holds {shown(steps)} grid steps of at most {MAX_STEPS}; take a coarser grid")
    return steps, exact_grid
