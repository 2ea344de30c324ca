"""server.toml and the making of a centre."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ldp_client.errors import ConfigurationError
from ldp_client.wire.canonical import parse
from ldp_client.wire.exchange import CentreCard
from server.centre import open_centre
from server.config import ExchangeSection, initialise, read_config, read_keys


def written(folder: Path, text: str) -> Path:
    path = folder / "server.toml"
    path.write_text(text)
    return path


def test_a_new_centre_opens_and_its_card_names_its_keys(tmp_path: Path) -> None:
    path = initialise(tmp_path / "centre", 'The "centre"', exchange=ExchangeSection(port=9443))
    config = read_config(path, {})
    assert (config.centre.name, config.exchange.port) == ('The "centre"', 9443)
    card = parse(CentreCard, (tmp_path / "centre" / "centre.json").read_bytes())
    keys = read_keys(config)
    assert card.signing_key == keys.signing.public_key.hex()
    assert card.sealing_key == keys.sealing.public_key.hex()
    assert stat.S_IMODE((tmp_path / "centre" / "keys" / "signing.key").stat().st_mode) == 0o600
    open_centre(path).close()


def test_a_centre_is_not_made_twice(tmp_path: Path) -> None:
    initialise(tmp_path, "one")
    with pytest.raises(ConfigurationError, match="holds a centre already"):
        initialise(tmp_path, "two")


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_centre_has_a_name_that_fits_on_a_screen(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"1 to 100 characters without line breaks; found {len(name)}"):
        initialise(tmp_path, name)


def test_defaults_lie_beside_the_file(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, '[centre]\nname = "c"\n'), {})
    assert config.database.url == f"sqlite:///{tmp_path}/centre.sqlite3"
    assert config.keys.folder == tmp_path / "keys"
    assert config.exchange.host == "127.0.0.1"


def test_urls_of_servers_are_left_as_they_are(tmp_path: Path) -> None:
    url = "postgresql+psycopg://ldp:hunter2@db/ldp"
    config = read_config(written(tmp_path, f'[centre]\nname = "c"\n[database]\nurl = "{url}"\n'), {})
    assert config.database.url == url


def test_an_unknown_key_is_named_with_the_file_and_what_was_expected(tmp_path: Path) -> None:
    path = written(tmp_path, '[centre]\nname = "c"\n[exchange]\nprot = 1\n')
    with pytest.raises(ConfigurationError) as refusal:
        read_config(path, {})
    assert str(refusal.value) == f"{path}: unknown key [exchange] prot; expected one of: host, port, superlink_port"


def test_an_unknown_section_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, '[centre]\nname = "c"\n[exchnage]\nport = 1\n')
    with pytest.raises(
        ConfigurationError, match=r"unknown key \[exchnage\]; expected one of: centre, database, exchange, keys"
    ):
        read_config(path, {})


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"the key \[centre\] is missing"):
        read_config(written(tmp_path, ""), {})
    with pytest.raises(ConfigurationError, match=r"the key \[centre\] name is missing"):
        read_config(written(tmp_path, "[centre]\n"), {})


def test_a_value_of_the_wrong_kind_is_refused_without_quoting_it(tmp_path: Path) -> None:
    path = written(tmp_path, '[centre]\nname = "c"\n[exchange]\nport = "hunter2"\n')
    with pytest.raises(
        ConfigurationError, match=r"the key \[exchange\] port is wrong: it must be a whole number"
    ) as refusal:
        read_config(path, {})
    assert "hunter2" not in str(refusal.value)


def test_a_section_that_is_no_section_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, 'exchange = "x"\n[centre]\nname = "c"\n')
    with pytest.raises(ConfigurationError, match=r"the key \[exchange\] is wrong"):
        read_config(path, {"LDP_EXCHANGE__PORT": "1"})


def test_the_environment_overrides_the_file_and_its_typing_errors_count(tmp_path: Path) -> None:
    path = written(tmp_path, '[centre]\nname = "c"\n[exchange]\nport = 1\n')
    config = read_config(path, {"LDP_EXCHANGE__PORT": "9443", "LDP_DATA_SET__FOLDER": "the agent's", "LDP_DATA": "x"})
    assert config.exchange.port == 9443
    with pytest.raises(ConfigurationError, match=r"unknown key \[exchange\] prot"):
        read_config(path, {"LDP_EXCHANGE__PROT": "9443"})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.toml cannot be read \(No such file or directory\)"):
        read_config(tmp_path / "server.toml", {})
    with pytest.raises(ConfigurationError, match="is not a TOML file"):
        read_config(written(tmp_path, "[centre"), {})


def test_a_url_that_is_none_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = initialise(tmp_path, "c")
    path.write_text('[centre]\nname = "c"\n[database]\nurl = "no url"\n')
    with pytest.raises(ConfigurationError, match="database URL cannot be used"):
        open_centre(path)


def test_a_database_without_a_centre_is_not_taken_for_one(tmp_path: Path) -> None:
    path = initialise(tmp_path, "c")
    path.write_text('[centre]\nname = "c"\n[database]\nurl = "sqlite:///another.sqlite3"\n')
    with pytest.raises(ConfigurationError, match="holds no centre"):
        open_centre(path)


def test_a_missing_key_file_stops_the_centre(tmp_path: Path) -> None:
    path = initialise(tmp_path, "c")
    (tmp_path / "keys" / "sealing.key").unlink()
    with pytest.raises(ConfigurationError, match=r"sealing\.key cannot be opened"):
        open_centre(path)
