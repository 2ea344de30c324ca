"""agent.toml: where a site's X-rays are and how its agent works. Written by IT; unknown keys are errors.

Every value can be overridden by the environment: LDP_DATA_SET__FOLDER stands for [data_set] folder.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ldp_client.errors import ConfigurationError
from ldp_client.privacy.fault import expected
from ldp_client.wire.canonical import PlainText, SiteId


class Section(BaseModel):
    """Part of a TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteSection(Section):
    """[site]: who this is."""

    id: SiteId
    name: Annotated[PlainText, StringConstraints(min_length=1, max_length=100)]


class DataSetSection(Section):
    """[data_set]: the X-rays and their labels. Paths are relative to the TOML file."""

    folder: Path = Path("xrays")
    labels: Path = Path("xrays/labels.csv")


class EncoderSection(Section):
    """[encoder]: the installed encoder bundle; "shipped:NAME" is one that came with the package."""

    bundle: str = "shipped:kermany28"


class ReleaseSection(Section):
    """[release]: sizes of the agent's work. `late_batch` is the fewest late arrivals that are released together;
    they are looked for when the agent starts and every `look_for_late_seconds`.
    """

    chunk: int = Field(default=100, ge=1, le=10_000)
    records_per_batch: int = Field(default=500, ge=1, le=9_000)
    late_batch: int = Field(default=20, ge=1)
    look_for_late_seconds: float = Field(default=3600, gt=0)


class AgentConfig(Section):
    """A site's whole configuration."""

    site: SiteSection
    data_set: DataSetSection = DataSetSection()
    encoder: EncoderSection = EncoderSection()
    release: ReleaseSection = ReleaseSection()


AnyConfig = TypeVar("AnyConfig", bound=BaseModel)


def read_toml(path: Path, kind: type[AnyConfig], environment: Mapping[str, str] | None = None) -> AnyConfig:
    """A TOML file as a checked value.

    Raises:
        ConfigurationError: unreadable, not TOML, or a key that is unknown, missing or of a wrong kind; the text names
            the file, the key and what was expected, and never a value: a database URL may hold a password.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}); create it, or name the right folder with --state"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error
    _apply_environment(data, kind, os.environ if environment is None else environment)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        # Not chained: pydantic's text quotes the values.
        raise ConfigurationError(f"{path}: {_first_fault(error, kind)}") from None


def _apply_environment(data: dict[str, Any], kind: type[BaseModel], environment: Mapping[str, str]) -> None:
    for section in kind.model_fields:
        prefix = f"LDP_{section.upper()}__"
        for name, value in environment.items():
            if name.startswith(prefix):
                values = data.setdefault(section, {})
                # A section that is no table is reported as such by the check that follows.
                if isinstance(values, dict):
                    values[name.removeprefix(prefix).lower()] = value


def _first_fault(error: ValidationError, kind: type[BaseModel]) -> str:
    fault = error.errors(include_input=False, include_url=False)[0]
    *sections, key = [str(part) for part in fault["loc"]] or ["?"]
    where = f"[{'.'.join(sections)}] {key}" if sections else f"[{key}]"
    if fault["type"] == "extra_forbidden":
        return f"unknown key {where}; expected one of: {', '.join(_keys(kind, sections))}"
    if fault["type"] == "missing":
        return f"the key {where} is missing; expected are: {', '.join(_keys(kind, sections))}"
    hint = ". Write it in quotes, as text, so that it is exact" if fault["type"] == "string_type" else ""
    return f"the key {where} is wrong: {expected(fault)}{hint}"


def _keys(kind: type[BaseModel], sections: list[str]) -> list[str]:
    for section in sections:
        inner = kind.model_fields[section].annotation if section in kind.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        kind = inner
    return sorted(kind.model_fields)
