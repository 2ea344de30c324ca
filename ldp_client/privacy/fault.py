"""What a check found wrong with a value, in our own words: none of a library's reach a screen.

A fault says what was expected. What was found is quoted only where the value is known to be no secret: an option or a
mechanism's number, never a key of a configuration, which may hold a password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from ldp_client.errors import ParameterError

# By the kinds of fault that pydantic tells apart; braces take the bound or the choice that was broken.
_EXPECTED = {
    "greater_than_equal": "it must be at least {ge}",
    "greater_than": "it must be more than {gt}",
    "less_than_equal": "it must be at most {le}",
    "less_than": "it must be below {lt}",
    "int_type": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "int_parsing_size": "it must be a whole number of at most 4300 digits",
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
    "finite_number": "it must be a finite number",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
    "string_type": "it must be text",
    "string_pattern_mismatch": "it must be text of the form {pattern}",
    "string_too_short": "it must be text of at least {min_length} character(s)",
    "string_too_long": "it must be text of at most {max_length} characters",
    "literal_error": "it must be one of {expected}",
    "union_tag_invalid": "its kind must be one of {expected_tags}",
    "union_tag_not_found": "it must say its kind",
    "tuple_type": "it must be a list",
    "list_type": "it must be a list",
    "too_short": "it must have at least {min_length} item(s)",
    "too_long": "it must have at most {max_length} items",
    "model_type": "it must be a table",
    "model_attributes_type": "it must be a table",
    "dict_type": "it must be a table",
    "path_type": "it must be the name of a file or folder",
    "missing": "it is missing",
    "extra_forbidden": "nothing is known by this name",
}


def expected(fault: Mapping[str, Any]) -> str:
    """What one fault of a ValidationError should have been: a bound, a kind, a choice, or the words of our own check.

    >>> expected({"type": "less_than_equal", "ctx": {"le": 9}, "loc": (), "msg": "", "input": 10})
    'it must be at most 9'
    """
    context = fault.get("ctx", {})
    if "error" in context:
        return str(context["error"])
    return _EXPECTED.get(fault["type"], "it is of another kind than it must be").format(**context)


def first_fault(error: ValidationError) -> str:
    """The first fault of a value that is no secret: where it is, what was expected, and what was found.

    Our own checks quote their numbers themselves.
    """
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"]))
    found = fault["input"]
    if "error" not in fault.get("ctx", {}) and isinstance(found, int | float | str):
        return f"{where}: {expected(fault)}; found {shown(found)}"
    return f"{where}: {expected(fault)}" if where else expected(fault)


def shown(value: object) -> str:
    """A value as a message quotes it: text in quotes, and never more than a line can hold."""
    if isinstance(value, Fraction | int):
        # Python writes no whole number of more than 4,300 digits, and nobody reads one.
        longest = max(value.numerator.bit_length(), value.denominator.bit_length())
        return str(value) if longest <= 128 else f"a number of {longest} bits"
    return (repr(value) if isinstance(value, str) else str(value))[:40]


@contextmanager
def no_such(what: str) -> Iterator[None]:
    """Within, whatever a spec finds impossible is refused in one sentence with the numbers.

    Raises:
        ParameterError: "no such `what`: " and the first fault.
    """
    try:
        yield
    except ValidationError as error:
        # Not chained: pydantic's own text is what nobody should read.
        raise ParameterError(f"no such {what}: {first_fault(error)}") from None
