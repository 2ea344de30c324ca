"""The SDK's example walks a file along the whole road."""

from __future__ import annotations

import ast
import inspect
from contextlib import ExitStack
from pathlib import Path

import pytest

from examples import one_xray
from ldp_client.imaging.phantoms import phantoms
from ldp_client.imaging.png import png_bytes

STOPS = ("1 pixels", "2 prepared", "3 encoder output", "4 ledger entry", "5 sealed record", "6 central row")


def walk(file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with ExitStack() as opened:
        one_xray.main(file, folder, opened)
    return capsys.readouterr().out.splitlines()


def test_one_png_goes_all_the_way_and_each_stop_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, _ = phantoms(1, 64, seed=5)
    file = tmp_path / "film.png"
    file.write_bytes(png_bytes(images[0]))
    lines = walk(file, tmp_path / "world", capsys)
    assert [stop for stop in STOPS if any(line.startswith(stop) for line in lines)] == list(STOPS)
    kinds = [line.split()[4] for line in lines if line.startswith("4 ledger entry")]
    assert kinds == ["genesis", "policy", "approval", "charge", "seal"]
    assert lines[-1].endswith("1 record, epsilon 2 of 8 spent per image")


@pytest.mark.real
def test_a_real_dicom_file_goes_all_the_way(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = walk(data_dir / "dicom" / "00001529_002_pneumonia.dcm", tmp_path, capsys)
    assert "(1024, 1024) uint8" in lines[0]
    assert lines[-1].endswith("1 record, epsilon 2 of 8 spent per image")


def test_the_walk_takes_a_user_fewer_than_forty_statements() -> None:
    statements = [node for node in ast.walk(ast.parse(inspect.getsource(one_xray.main))) if isinstance(node, ast.stmt)]
    assert len(statements) < 40
