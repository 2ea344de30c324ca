"""The private PostgreSQL of tests and drills: found, or its absence said with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.private_postgres import PostgresMissingError, find_programs


def test_a_machine_without_the_server_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PostgresMissingError, match="apt-get install postgresql-15; it need not be started"):
        find_programs((str(tmp_path / "*"),))


def test_the_newest_version_beside_others_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for version in ("14", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        for program in ("initdb", "postgres"):
            (tmp_path / version / "bin" / program).touch()
    assert find_programs((str(tmp_path / "*" / "bin"),)) == tmp_path / "15" / "bin"
