"""The configuration that was chosen for each epsilon: a committed file, read before any test X-ray is."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from ldp_client.errors import ConfigurationError
from server.benchmarks.arms import Wanted

FILE = "chosen.toml"
_LOOKED_AT = "looked_at"
"""A table's key that says what else than public X-rays without labels was looked at."""


def chosen(data: str, task: str, epsilon: Fraction, file: Path | None = None, *, student: bool = False) -> Wanted:
    """The line of `file` (the committed one by default) for a data set, a task and an epsilon per record.

    With a student it is the table `TASK with a student`.

    Raises:
        ConfigurationError: the file cannot be read, has no line for them, or one that describes no release.
    """
    name, lines = _table(data, task, file, student)
    where = f"{data}, {task}"
    try:
        starts = [start for start in lines if start != _LOOKED_AT]
        below = {Fraction(start): lines[start] for start in starts if Fraction(start) <= epsilon}
        if not below:
            raise ConfigurationError(f"{name} has no configuration for {where} at epsilon {epsilon}; add one")
        wanted = Wanted(**below[max(below)])
        wanted.spec(epsilon, 2)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigurationError(f"{name} describes no release for {where} at {epsilon}: {error}") from error
    return wanted


def chosen_by(data: str, task: str, *, student: bool = False) -> str:
    """What rows of `chosen` say of the choice: the file, and whose labels were in view. Raises what `chosen` does."""
    _, lines = _table(data, task, None, student)
    return f"{FILE}, {lines[_LOOKED_AT]}" if _LOOKED_AT in lines else FILE


def _table(data: str, task: str, file: Path | None, student: bool) -> tuple[str, dict[str, Any]]:
    name = file.name if file else FILE
    try:
        text = (file or Path(str(resources.files("server.benchmarks"))) / FILE).read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"asked for the chosen configurations; {name} cannot be read: {error}") from error
    task = f"{task} with a student" if student else task
    lines = tables.get(data, {}).get(task) or tables.get("default", {}).get(task)
    if not lines:
        raise ConfigurationError(f"{name} has no configuration for {data}, {task}; add a table [{data}.{task}]")
    return name, lines
