"""What a release costs: epsilon in whole millionths, rounded up."""

from __future__ import annotations

import decimal
import re
from dataclasses import dataclass
from fractions import Fraction

from ldp_client.errors import ParameterError
from ldp_client.privacy.fault import shown

MICRO = 1_000_000
# One unit spending this much has no privacy left to speak of; larger values are typing errors.
MAX_MICRO_EPSILON = 10**6 * MICRO
# No exponents: Fraction("1e999999999") would fill the memory before anything could refuse it.
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:[./][0-9]{1,40})?")
ExactNumber = Fraction | int | str


def exact_fraction(value: ExactNumber) -> Fraction:
    """The number that an exact input stands for: a Fraction, an int, or text such as 2, 0.5 or 1/3.

    Raises:
        ValueError: a float, or text that is no such number or has a part of over 40 digits. It never quotes the input.
    """
    if isinstance(value, Fraction) or type(value) is int:
        return Fraction(value)
    if not isinstance(value, str):
        raise ValueError(f"must be an exact fraction, not a {type(value).__name__}")
    if not _NUMBER.fullmatch(value) or re.search(r"/0+$", value):
        raise ValueError("must be a number such as 2, 0.5 or 1/3")
    return Fraction(value)


def exact(name: str, value: ExactNumber) -> Fraction:
    """The same for a number that has a name.

    Raises:
        ParameterError: it is not exact; the text names it and shows what was found.

    >>> exact("radius", "1/3")
    Fraction(1, 3)
    """
    if isinstance(value, float):
        raise ParameterError(
            f"{name} must be exact: write it in quotes or as a fraction, not as a float; found {value}"
        )
    try:
        return exact_fraction(value)
    except ValueError as error:
        raise ParameterError(f"{name} {error}; found {shown(value)}") from error


@dataclass(frozen=True, order=True)
class PrivacyLoss:
    """A bound on epsilon, in whole millionths, so that sums in Python and in SQL are exact.

    Conversion always rounds up: the ledger may overstate a loss, never understate it.

    Raises:
        ParameterError: the number is negative, not an integer, or beyond 10^6 epsilon.
    """

    micro_epsilon: int

    def __post_init__(self) -> None:
        if type(self.micro_epsilon) is not int or not 0 <= self.micro_epsilon <= MAX_MICRO_EPSILON:
            raise ParameterError(
                f"a privacy loss is a whole number of millionths from 0 to {MAX_MICRO_EPSILON}; "
                f"found {shown(self.micro_epsilon)}"
            )

    @classmethod
    def of(cls, epsilon: ExactNumber) -> PrivacyLoss:
        """The smallest loss that is at least `epsilon`; exact input only, so a float is refused.

        >>> PrivacyLoss.of("0.1").micro_epsilon, PrivacyLoss.of(Fraction(1, 3)).micro_epsilon
        (100000, 333334)
        """
        whole = exact("epsilon", epsilon)
        return cls(-((-whole.numerator * MICRO) // whole.denominator))

    @classmethod
    def of_log(cls, ratio: Fraction) -> PrivacyLoss:
        """The smallest loss that is at least ln(ratio): what a mechanism costs whose probabilities differ by `ratio`.

        Raises:
            ParameterError: the ratio is below 1; the larger probability stands above the smaller one.

        >>> PrivacyLoss.of_log(Fraction(3)).micro_epsilon
        1098613
        """
        if ratio < 1:
            raise ParameterError(f"a ratio of probabilities is at least 1; found {ratio}")
        if ratio == 1:
            return cls(0)
        precision = 40
        while True:
            below, above = (_log_millionths(ratio, precision, rounding) for rounding in _BOTH_SIDES)
            # The logarithm of a rational other than 1 is irrational, so no millionth stays between the two for ever.
            if below == above:
                return cls(above)
            precision *= 2

    def __add__(self, other: PrivacyLoss) -> PrivacyLoss:
        return PrivacyLoss(self.micro_epsilon + other.micro_epsilon)

    def __mul__(self, times: int) -> PrivacyLoss:
        return PrivacyLoss(self.micro_epsilon * times)

    def __float__(self) -> float:
        return self.micro_epsilon / MICRO

    def __str__(self) -> str:
        whole, millionths = divmod(self.micro_epsilon, MICRO)
        return f"{whole}.{millionths:06d}".rstrip("0").rstrip(".")


_BOTH_SIDES = (decimal.ROUND_FLOOR, decimal.ROUND_CEILING)


def _log_millionths(ratio: Fraction, precision: int, rounding: str) -> int:
    """ceil(10^6 ln(ratio)) of a bound of the logarithm: the lower one when rounding down, the upper one when up."""
    with decimal.localcontext() as context:
        context.prec = precision
        context.rounding = rounding
        bound = decimal.Decimal(ratio.numerator) / decimal.Decimal(ratio.denominator)
        # ln is correctly rounded to nearest whatever the context says: one unit outwards is a bound.
        log = bound.ln().next_minus() if rounding == decimal.ROUND_FLOOR else bound.ln().next_plus()
        context.prec = precision + 10
        return int((log * MICRO).to_integral_value(decimal.ROUND_CEILING))


NOTHING = PrivacyLoss(0)
