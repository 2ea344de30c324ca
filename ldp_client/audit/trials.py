"""Each twin and the checks that must notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from ldp_client.audit import twins
from ldp_client.audit.engine import INSTALLED, Engine
from ldp_client.audit.enumeration import codebook_bound, response_bound
from ldp_client.audit.estimates import histogram_case, laplace_case, measure
from ldp_client.audit.findings import Bound, Effort, Fit, Twin
from ldp_client.audit.fit import SCALES, fit_noise
from ldp_client.audit.releases import latent_case
from ldp_client.audit.sensitivity import clip_bounds, stated_bounds
from ldp_client.privacy.noise import ByteSource

_BOOK = (4, 16, 4, 1, 2)


@dataclass(frozen=True)
class Trial:
    """A broken engine, and checks of which every one must fail on it."""

    twin: str
    engine: Engine
    by: str
    checks: Callable[[Engine, Effort, ByteSource], Iterable[Bound | Fit]]

    def run(self, effort: Effort, source: ByteSource) -> Twin:
        """Whether it was noticed."""
        found = list(self.checks(self.engine, effort, source))
        return Twin(self.twin, bool(found) and not any(one.holds for one in found), self.by)


def trials() -> tuple[Trial, ...]:
    """All of them."""
    fit, low, exact, clip = "goodness of fit", "lower bound on epsilon", "enumeration", "clip's largest distance"
    return (
        Trial(
            "scale x 0.7", replace(INSTALLED, noise=twins.scaled(Fraction(7, 10))), f"{fit}, every scale", _all_scales
        ),
        Trial(
            "scale x 1.3", replace(INSTALLED, noise=twins.scaled(Fraction(13, 10))), f"{fit}, every scale", _all_scales
        ),
        Trial("one sign flipped: -1 becomes +1", replace(INSTALLED, noise=twins.sign_flipped), fit, _small_scale),
        Trial(
            "noise never negative", replace(INSTALLED, noise=twins.always_positive), f"{fit}, every scale", _all_scales
        ),
        Trial("R instead of 2R", replace(INSTALLED, laplace=twins.radius_for_diameter), low, _ball),
        Trial("clip after noise", replace(INSTALLED, laplace=twins.clip_after_noise), low, _sign),
        Trial("float clip, then rounding", replace(INSTALLED, clipped=twins.float_clip), clip, _ball_clip),
        Trial("NaN survives the clip", replace(INSTALLED, clipped=twins.nan_survives), clip, _ball_clip),
        Trial("int16 magnitude of -32768", replace(INSTALLED, clipped=twins.sixteen_bits), clip, _ball_clip),
        Trial("s + 1 codewords are near for some inputs", replace(INSTALLED, choose=twins.one_too_many), exact, _book),
        Trial("threshold rounded up", replace(INSTALLED, threshold=twins.rounded_up), exact, _book_and_response),
        Trial("epsilon understated by a millionth", replace(INSTALLED, loss=twins.understated), exact, _stated),
        Trial("histogram without its cap", replace(INSTALLED, histogram=twins.without_cap), low, _counts),
        Trial("label left in clear", replace(INSTALLED, release=twins.label_in_clear), low, _latent),
    )


def _all_scales(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Fit]:
    return [fit_noise(engine, scale, effort.draws // 4, source) for scale in SCALES]


def _small_scale(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Fit]:
    return [fit_noise(engine, Fraction(5, 2), effort.draws // 4, source)]


def _ball(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    return [measure(laplace_case(engine, effort.draws // 4, source))]


def _sign(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    return [measure(laplace_case(engine, effort.draws // 4, source, by_sign=True))]


def _ball_clip(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    del effort, source
    return list(clip_bounds(engine))[:1]


def _book(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    del effort, source
    return [codebook_bound(engine, *_BOOK)]


def _book_and_response(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    return [*_book(engine, effort, source), response_bound(engine, 5, Fraction(1))]


def _stated(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    return [*stated_bounds(engine), *_book(engine, effort, source)]


def _counts(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    return [measure(histogram_case(engine, effort.records // 4, source))]


def _latent(engine: Engine, effort: Effort, source: ByteSource) -> Iterable[Bound]:
    return [measure(latent_case(engine, effort.records // 2, source))]
