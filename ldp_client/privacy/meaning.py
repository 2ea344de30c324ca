"""What epsilon means, in words an officer can weigh: ceilings against every attacker (docs/privacy.md, 5)."""

from __future__ import annotations

import math

from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, ReleaseSpec

_BLIND = PrivacyLoss.of(8)
"""Up to here nothing is seen of an X-ray in a picture of all latents; measured up to 100 (docs/pictures.md)."""


def best_guess(loss: PrivacyLoss) -> float:
    """The highest chance of guessing a yes/no fact right that was even before the release: e^eps / (1 + e^eps)."""
    return 1.0 / (1.0 + math.exp(-float(loss)))


def best_identification(loss: PrivacyLoss, candidates: int) -> float:
    """The highest chance of naming which of N equally likely X-rays it was: e^eps / (e^eps + N - 1)."""
    return 1.0 / (1.0 + (candidates - 1) * math.exp(-float(loss)))


def bits(loss: PrivacyLoss) -> float:
    """The most one release can say about its input, in bits: eps tanh(eps/2) / ln 2."""
    epsilon = float(loss)
    return epsilon * math.tanh(epsilon / 2) / math.log(2)


def _at_most(value: float) -> str:
    # A ceiling is rounded up; the billionth forgives what the float added to an exact tenth.
    return f"{math.ceil(value * 10 - 1e-9) / 10:.1f}"


def in_words(loss: PrivacyLoss, unit: str) -> str:
    """Two sentences for `campaign show`, the plan and the report; every ceiling is rounded up.

    >>> from ldp_client.privacy.loss import PrivacyLoss
    >>> print(in_words(PrivacyLoss.of(2), "record"))  # doctest: +ELLIPSIS
    At epsilon 2 per record, one yes/no fact is guessed right at best 88.1 % of the time instead of 50 %...
    """
    return (
        f"At epsilon {loss} per {unit}, one yes/no fact is guessed right at best {_at_most(100 * best_guess(loss))} % "
        f"of the time instead of 50 %, and the right one of 100 equally likely X-rays is named at best "
        f"{_at_most(100 * best_identification(loss, 100))} % of the time instead of 1 %. "
        f"A {unit} carries at most {_at_most(bits(loss))} bits."
    )


def unit_in_words(per_record: PrivacyLoss, cap: int, unit: str) -> str:
    """What all records of one unit say together: losses add up, so the ceilings are those of cap x epsilon.

    >>> print(unit_in_words(PrivacyLoss.of(2), 2, "patient"))  # doctest: +ELLIPSIS
    All records of one patient together, at most 2, cost epsilon 4: one yes/no fact is guessed right at best 98.3 % ...
    """
    loss = per_record * cap
    return (
        f"All records of one {unit} together, at most {cap}, cost epsilon {loss}: one yes/no fact is guessed right at "
        f"best {_at_most(100 * best_guess(loss))} % of the time, and the right one of 100 equally likely {unit}s is "
        f"named at best {_at_most(100 * best_identification(loss, 100))} % of the time; "
        f"at most {_at_most(bits(loss))} bits."
    )


def what_leaves(release: ReleaseSpec | ImageSpec, label_names: tuple[str, ...]) -> str:
    """One sentence on what a record of this release holds.

    >>> from ldp_client.privacy.release_design import joint_codebook
    >>> print(what_leaves(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=8), ("normal", "pneumonia")))
    one of 256 public codewords per X-ray, which stands for the X-ray and its label (normal, pneumonia) together
    """
    labels = ", ".join(label_names)
    if isinstance(release, ImageSpec):
        return _what_a_picture_is(release, labels)
    if isinstance(release, JointCodebookSpec):
        return (
            f"one of {release.codebook.codewords} public codewords per X-ray, which stands for the X-ray and its label "
            f"({labels}) together"
        )
    if isinstance(release, JointLaplaceSpec):
        return (
            f"{release.laplace.dimension} noised integers per X-ray, which stand for the X-ray and its label "
            f"({labels}) together"
        )
    what = "of the bottleneck" if release.source == "bottleneck" else "for all of the flow's latents"
    return (
        f"{release.laplace.dimension} noised integers {what} per X-ray, at epsilon {release.laplace.loss}, and its "
        f"label ({labels}), randomized at epsilon {release.label.loss}"
    )


def shown_by_pictures(release: ImageSpec) -> str:
    """What may be seen of an X-ray in the picture that was released for it; half a sentence."""
    if not isinstance(release.noised, DpGlowSpec):
        return "it shows no patient: the public encoder made it up before any X-ray was read, noised numbers picked it"
    return (
        "it is decoded from noised latents: at this epsilon it shows nothing of its X-ray"
        if release.loss <= _BLIND
        else "it is decoded from noised latents, and the larger epsilon is, the more it shows of its X-ray: in the "
        "thousands, the patient"
    )


def _what_a_picture_is(release: ImageSpec, labels: str) -> str:
    size, noised = f"{release.side} x {release.side} pixels", release.noised
    if isinstance(noised, DpGlowSpec):
        return (
            f"a picture of {size} per X-ray, decoded from all of the flow's latents, which were noised at epsilon "
            f"{noised.laplace.loss}, and its label ({labels}), randomized at epsilon {noised.label.loss}; "
            f"{shown_by_pictures(release)}"
        )
    drawn = (
        f"and a label ({labels}) drawn by lot; both together stand for what is noised of the X-ray and its own label"
        if isinstance(noised, JointLaplaceSpec | JointCodebookSpec)
        else f"and its label ({labels}), randomized at epsilon {noised.label.loss}"
    )
    return (
        f"a picture of {size} per X-ray, which shows no patient: one of {release.candidates} that the public encoder "
        f"makes up, picked by {noised.input_dimension} noised numbers, {drawn}"
    )
