"""A TOML file says all that it may say, and whatever else it says is named: file, key, and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldp_client.config import AgentConfig, read_toml
from ldp_client.errors import ConfigurationError

SITE = '[site]\nid = "north"\nname = "North"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(SITE)
    return path


def test_site_alone_is_enough(file: Path) -> None:
    config = read_toml(file, AgentConfig, {})
    assert config.site.id == "north"
    assert config.data_set.folder == Path("xrays")
    assert config.encoder.bundle == "shipped:kermany28"
    assert (config.release.chunk, config.release.records_per_batch, config.release.late_batch) == (100, 500, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[release]\nchunks = 5\n",
            r"unknown key \[release\] chunks; expected one of: chunk, late_batch",
        ),
        ("[releases]\nchunk = 5\n", r"unknown key \[releases\]; expected one of: data_set, encoder, release, site"),
        ("[release]\nchunk = 0\n", r"the key \[release\] chunk is wrong: it must be at least 1"),
        ("[release]\nchunk = 'many'\n", r"the key \[release\] chunk is wrong: it must be a whole number"),
        (
            "[release]\nchunk = 20000\n",
            r"the key \[release\] chunk is wrong: it must be at most 10000",
        ),
        ("[data_set]\nfolder = 7\n", r"the key \[data_set\] folder is wrong"),
        ("[site.more]\nx = 1\n", r"unknown key \[site\] more; expected one of: id, name"),
    ],
)
def test_fault_names_file_key_and_what_was_expected(file: Path, text: str, message: str) -> None:
    file.write_text(SITE + text)
    with pytest.raises(ConfigurationError, match=message) as refused:
        read_toml(file, AgentConfig, {})
    assert str(refused.value).startswith(f"{file}: ")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the key \[site\] is missing"),
        ('[site]\nid = "north"\n', r"the key \[site\] name is missing"),
        ('[site]\nid = "North Hospital"\nname = "x"\n', r"the key \[site\] id is wrong: it must be text of the form"),
        (
            '[site]\nid = "north"\nname = ""\n',
            r"the key \[site\] name is wrong: it must be text of at least 1 character",
        ),
        ("site = 3\n", r"the key \[site\] is wrong"),
        ("[site\n", "is not a TOML file"),
        ('[site]\nid = "a"\nid = "b"\n', "is not a TOML file"),
    ],
)
def test_site_must_be_whole(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_toml(file, AgentConfig, {})


def test_other_encoding_is_refused(file: Path) -> None:
    file.write_bytes(SITE.encode("utf-16"))
    with pytest.raises(ConfigurationError, match="is not a TOML file"):
        read_toml(file, AgentConfig, {})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"agent.toml cannot be read \(No such file or directory\); create it"):
        read_toml(tmp_path / "agent.toml", AgentConfig, {})


def test_environment_overrides_every_section(file: Path) -> None:
    file.write_text(SITE + "[release]\nchunk = 5\n")
    environment = {
        "LDP_RELEASE__CHUNK": "7",
        "LDP_DATA_SET__FOLDER": "/data",
        "LDP_ENCODER__BUNDLE": "mine",
        "LDP_DATA": "/not/a/section",
        "LDP_STATE": "/not/a/section",
    }
    config = read_toml(file, AgentConfig, environment)
    assert (config.release.chunk, config.data_set.folder, config.encoder.bundle) == (7, Path("/data"), "mine")


def test_environment_is_that_of_the_process_unless_given(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDP_RELEASE__LATE_BATCH", "3")
    assert read_toml(file, AgentConfig).release.late_batch == 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LDP_RELEASE__CHUNKS", "5", r"unknown key \[release\] chunks"),
        ("LDP_RELEASE__CHUNK", "five", r"the key \[release\] chunk is wrong"),
    ],
)
def test_fault_in_the_environment_is_refused_too(file: Path, name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_toml(file, AgentConfig, {name: value})


def test_section_that_is_no_table_is_refused_whatever_the_environment_says(file: Path) -> None:
    file.write_text("release = 3\n" + SITE)
    with pytest.raises(ConfigurationError, match=r"the key \[release\] is wrong"):
        read_toml(file, AgentConfig, {"LDP_RELEASE__CHUNK": "5"})


def test_configuration_cannot_be_changed_afterwards(file: Path) -> None:
    config = read_toml(file, AgentConfig, {})
    with pytest.raises(ValueError, match="frozen"):
        config.release.chunk = 1  # type: ignore[misc]
