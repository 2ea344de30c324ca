"""The configuration that was chosen for each epsilon: a committed file, read before any test X-ray is."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from importlib import resources
from pathlib import Path

from ldp_client.errors import ConfigurationError
from server.benchmarks.arms import Wanted

FILE = "chosen.toml"


def chosen(data: str, task: str, epsilon: Fraction, file: Path | None = None, *, student: bool = False) -> Wanted:
    """The line of `file` (the committed one by default) for a data set, a task and an epsilon per record.

    With a student it is the table `TASK with a student`.

    Raises:
        ConfigurationError: the file cannot be read, has no line for them, or one that describes no release.
    """
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
    try:
        below = {Fraction(start): line for start, line in lines.items() if Fraction(start) <= epsilon}
        if not below:
            raise ConfigurationError(f"{name} has no configuration for {data}, {task} at epsilon {epsilon}; add one")
        wanted = Wanted(**below[max(below)])
        wanted.spec(epsilon, 2)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigurationError(f"{name} describes no release for {data}, {task} at {epsilon}: {error}") from error
    return wanted
