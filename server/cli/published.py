"""The command that a card names: what made a bundle, without where its maker keeps files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_PRIVATE = ("--state",)
"""Options that say nothing about a classifier, only where its centre lies."""


def published_command(arguments: Sequence[str]) -> str:
    """`ldp-server` and its arguments as a card may carry them to every hospital: files by their last name alone.

    >>> published_command(["model", "export", "lungs", "--state=/srv/centre", "--student", "/home/eva/open.npz"])
    'ldp-server model export lungs --student open.npz'
    """
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, given, value = argument.partition("=")
        if option in _PRIVATE:
            if not given:
                next(rest, None)
            continue
        whole = bool(given) and option.startswith("--")
        kept.append(f"{option}={_last(value)}" if whole else _last(argument))
    return shlex.join(["ldp-server", *kept])


def _last(text: str) -> str:
    """A path without its folders; other words as they are."""
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2] or "."
