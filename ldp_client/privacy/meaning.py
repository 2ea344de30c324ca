"""What epsilon means, in words an officer can weigh: ceilings against every attacker (docs/privacy.md, 5)."""

from __future__ import annotations

import math

from ldp_client.privacy.loss import PrivacyLoss


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
