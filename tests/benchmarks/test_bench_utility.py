"""`ldp-server bench utility`: its files, its resume, its refusals, on drawn phantoms."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ldp_client.errors import ConfigurationError, EncoderError
from ldp_client.flow.encoder import Encoder
from server.benchmarks import provenance
from server.benchmarks.arms import Wanted, ours
from server.benchmarks.chosen import chosen
from server.benchmarks.encoded import refuse_crossing
from server.benchmarks.networks import require_opacus
from server.benchmarks.smaller import smaller
from server.benchmarks.table import Extent, entries
from server.benchmarks.tasks import Archive, read_archive
from server.benchmarks.utility import FIELDS
from server.cli.bench import app

Row = dict[str, Any]


def run(file: Path, bundle: Path, out: Path, *more: str) -> dict[str, Any]:
    words = ["utility", "--data", str(file), "--encoder", str(bundle), "--out", str(out), "--jobs", "1", "--quick"]
    words += ["--without", "dp-sgd", "--without", "networks", "--task", "pneumonia", "--task", "subtype of three"]
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads((out / "utility.json").read_text())
    return found


@pytest.fixture(scope="module")
def measured(file: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("utility")
    return out, run(file, bundle, out)


def rows(found: dict[str, Any], **wanted: object) -> list[Row]:
    return [row for row in found["rows"] if all(row[key] == value for key, value in wanted.items())]


def test_every_row_has_the_fields_that_were_promised(measured: tuple[Path, dict[str, Any]]) -> None:
    out, found = measured
    assert all(tuple(row) == FIELDS for row in found["rows"])
    with (out / "utility.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["auc_mean"] for row in table] == [str(row["auc_mean"]) for row in found["rows"]]
    assert (out / "utility.png").read_bytes().startswith(b"\x89PNG")


def test_tasks_releases_peers_and_tracks_are_all_there(measured: tuple[Path, dict[str, Any]]) -> None:
    _, found = measured
    assert {row["task"] for row in found["rows"] if "," not in row["task"]} == {"pneumonia", "subtype of three"}
    assert {row["release"] for row in found["rows"]} >= {
        "joint",
        "latent",
        "dp_glow",
        "pixels",
        "image",
        "no noise",
        "public only",
    }
    assert {row["track"] for row in rows(found, release="public only")} == {"U", "V", "L"}
    assert all(row["public_labels"] == 0 for row in rows(found, track="U"))
    assert any(row["glow"].startswith("none: statistics") for row in rows(found, release="joint"))
    circumstances = {row["task"].partition(", ")[2] for row in rows(found)}
    assert {"10 % prevalence", "shifted 1 sd", "labels inverted", "labels permuted"} <= circumstances
    of_three = [row for row in rows(found) if row["task"].startswith("subtype of three, ")]
    assert {"10 % prevalence", "shifted 1 sd", "labels permuted"} <= {
        row["task"].partition(", ")[2] for row in of_three
    }
    assert all(row["chosen_by"] == "chosen.toml" for row in of_three if "permuted" not in row["task"])


def test_pictures_are_rows_of_the_task_with_two_labels(measured: tuple[Path, dict[str, Any]]) -> None:
    _, found = measured
    pictures = rows(found, release="image")
    assert [(row["task"], row["epsilon"]) for row in pictures] == [("pneumonia", 1.0), ("pneumonia", 4.0)]
    for row in pictures:
        assert (row["mechanism"], row["track"], row["repeats"]) == ("codebook, nearest sample", "U", 1)
        assert row["glow"] == "bottleneck 4"
        assert "judged on labelled hospital X-rays" in row["chosen_by"]
        assert 0 < row["auc_mean"] < 1


def test_patients_pay_for_all_their_records(measured: tuple[Path, dict[str, Any]]) -> None:
    _, found = measured
    twice = rows(found, cap=2, release="joint")
    assert twice
    for row in twice:
        assert row["unit"] == "patient"
        assert row["patient_epsilon"] == 2 * row["epsilon"]
        assert row["records"] > rows(found, cap=1, release="joint", task=row["task"])[0]["records"]


def test_forecasts_stand_beside_what_they_foretell(measured: tuple[Path, dict[str, Any]]) -> None:
    _, found = measured
    for line in found["forecasts"]:
        assert line["within"] == (abs(line["predicted"] - line["measured"]) <= 0.03 + 1e-5)
    assert len(found["forecasts"]) > 10
    assert {"bacteria", "virus"} == {line["subgroup"] for line in found["subgroups"]}


def test_the_planner_forecasts_no_head_since_it_knows_of_none(file: Path) -> None:
    table = entries("cxr64", read_archive(file).task("pneumonia"), 1, Extent(dimension=16))
    heads = [entry for entry in table if "head" in entry.arm.release]
    assert len(heads) > 1
    assert all(entry.forecast is None for entry in heads)


def test_releases_of_few_records_at_a_small_epsilon_are_repeated_more_often() -> None:
    arm = ours(Wanted("codebook", "map 2"))
    assert arm.times(999, Fraction(4)) > arm.times(1000, Fraction(4)) == arm.repeats
    assert arm.times(999, Fraction(8)) == arm.repeats
    assert arm.times(999, None) == arm.repeats
    assert ours(Wanted("laplace", "map 2"), repeats=100).times(10, Fraction(1)) == 100
    assert replace(arm, repeats_of_few=0).times(10, Fraction(1)) == arm.repeats


def test_a_run_goes_on_from_what_an_interrupted_one_left(
    measured: tuple[Path, dict[str, Any]], file: Path, bundle: Path
) -> None:
    out, found = measured
    (folder,) = (out / "resume").glob("rows-*")
    lost = sorted(folder.glob("*.npy"))[0]
    lost.unlink()
    (folder / "half.123.part").write_bytes(b"half a row")

    again = run(file, bundle, out)

    assert again["about"]["rows_measured"] == 1
    assert again["about"]["rows_resumed"] == len(found["rows"]) - 1
    same = [old == new for old, new in zip(found["rows"], again["rows"], strict=True)]
    assert sum(same) >= len(same) - 1


def test_another_file_meets_no_row_of_this_one(file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(file))
    arrays["images"][0, 0, 0] ^= 1
    np.savez(tmp_path / "drawn.npz", **arrays)
    first, second = read_archive(file), read_archive(tmp_path / "drawn.npz")
    assert first.digest != second.digest
    assert smaller(first).digest not in (first.digest, smaller(second).digest)


def test_a_patient_in_two_parts_is_refused(file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(file))
    hospital, test = (np.flatnonzero(arrays["split"] == part)[0] for part in ("hospital", "test"))
    arrays["group_id"][test] = arrays["group_id"][hospital]
    np.savez(tmp_path / "drawn.npz", **arrays)
    with pytest.raises(ConfigurationError, match=r"1 of .* values of group_id have X-rays in more than one part"):
        read_archive(tmp_path / "drawn.npz")


def test_what_a_row_or_an_encoding_is_kept_by_changes_with_the_code_that_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(provenance.__file__).parents[1]
    assert all((root / name).is_file() for name in provenance._NOT)
    rows, encodings = provenance.code_digest(), provenance.encoding_digest()
    assert rows != encodings
    monkeypatch.setattr(provenance, "_NOT", {*provenance._NOT, "benchmarks/encoded.py"})
    assert provenance.code_digest() != rows
    assert provenance.encoding_digest() != encodings
    monkeypatch.setattr(provenance, "_NOT", {"learning/train.py"})
    assert provenance.encoding_digest() == encodings
    assert provenance.code_digest() != rows


def apart(file: Path, folder: Path, **changes: object) -> tuple[Path, Path]:
    """The same data as two files, public X-rays in one and all others in the other; None leaves a field out."""
    arrays = dict(np.load(file))
    public = arrays["split"] == "public"
    for name, rows in (("own.npz", ~public), ("public.npz", public)):
        parts = {key: value if key == "label_names" else value[rows] for key, value in arrays.items()}
        own = {key: value for key, value in changes.items() if name == "public.npz"}
        np.savez(folder / name, **{key: value for key, value in (parts | own).items() if value is not None})
    return folder / "own.npz", folder / "public.npz"


def test_public_x_rays_of_another_file_bring_what_they_have(file: Path, tmp_path: Path) -> None:
    whole = read_archive(file)
    for kinds in (None, "theirs"):
        own, public = apart(file, tmp_path, **({} if kinds else {"subtype": None}))
        found = read_archive(own, public)
        assert [task.name for task in found.tasks] == [task.name for task in whole.tasks]
        assert all(len(task.labels) == len(found.part) for task in found.tasks)
        three = found.task("subtype of three")
        assert found.has_public_labels(found.task("pneumonia"))
        assert found.has_public_labels(three) is (kinds is not None)
        assert len(np.unique(three.labels[found.part == "test"])) == 3


def test_public_x_rays_of_another_file_are_none_of_this_one(file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(file))
    test = arrays["images"][arrays["split"] == "test"]
    public = arrays["images"][arrays["split"] == "public"].copy()
    public[:3] = test[:3]
    with pytest.raises(ConfigurationError, match=r"3 of .* public X-rays in public\.npz are in own\.npz too"):
        read_archive(*apart(file, tmp_path, images=public))


def test_public_x_rays_of_another_file_are_of_other_people(file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(file))
    groups = arrays["group_id"][arrays["split"] == "public"].copy()
    groups[:2] = arrays["group_id"][arrays["split"] == "test"][0]
    words = r"1 values of group_id in own\.npz are among the public X-rays of public\.npz too"
    for source in (np.full(len(groups), "drawn"), None):
        with pytest.raises(ConfigurationError, match=words):
            read_archive(*apart(file, tmp_path, group_id=groups, source=source))
    found = read_archive(*apart(file, tmp_path, group_id=groups, source=np.full(len(groups), "elsewhere")))
    assert found.family == "drawn"


def test_public_x_rays_need_no_labels(file: Path, bundle: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(file))
    public = arrays["split"] == "public"
    arrays["labels"][public], arrays["subtype"][public] = 0, ""
    np.savez(tmp_path / "drawn.npz", **arrays)
    left = ("edges", "variants", "dp-glow", "pictures", "student")
    found = run(
        tmp_path / "drawn.npz", bundle, tmp_path / "out", *(word for part in left for word in ("--without", part))
    )
    assert {row["track"] for row in rows(found, release="public only")} == {"U"}
    assert len(rows(found, chosen_by="chosen.toml")) >= 4


def test_edges_of_few_records_are_left_out_where_there_are_no_more(file: Path) -> None:
    task = read_archive(file).task("pneumonia")

    def told(records: int) -> set[str]:
        return {entry.circumstances for entry in entries("cxr64", task, 1, Extent(dimension=16, records=records))}

    assert told(2000) - told(400) == {"1,000 records"}
    assert told(400) - told(300) == {"300 records"}


def test_rows_say_whose_labels_were_in_view(file: Path) -> None:
    task = read_archive(file).task("pneumonia")
    for data, by in (
        ("cxr64", "chosen.toml"),
        ("adult64", "chosen.toml, level and number judged on labelled hospital X-rays"),
    ):
        table = entries(data, task, 1, Extent(dimension=16))
        assert {entry.arm.chosen_by for entry in table if entry.arm.chosen_by.startswith("chosen")} == {by}
        whole = {entry.circumstances for entry in table if entry.arm.chosen_by == by}
        assert {"", "10 % prevalence", "shifted 2 sd", "uneven sites", "labels inverted"} <= whole
        assert any(circumstances.startswith("one site of ten crafts") for circumstances in whole)


def test_what_cannot_be_measured_is_refused_with_the_way_out(file: Path, bundle: Path, tmp_path: Path) -> None:
    words = ["utility", "--data", str(file), "--encoder", str(bundle), "--out", str(tmp_path)]
    for more, text in (
        (["--without", "peers"], "asked to leave out peers"),
        (["--jobs", "0"], "at least 1 process"),
        (["--cap", "0"], "caps from 1 on"),
        (["--quick", "--task", "age"], "asked for the task 'age'"),
    ):
        result = CliRunner().invoke(app, [*words, *more])
        assert isinstance(result.exception, ConfigurationError)
        assert text in str(result.exception)


@pytest.mark.parametrize("what", ["utility", "attacks"])
def test_a_place_that_cannot_hold_the_results_is_refused_before_an_hour_of_work(what: str, file: Path) -> None:
    result = CliRunner().invoke(app, [what, "--data", str(file), "--out", "/dev/null/results"])
    assert isinstance(result.exception, ConfigurationError)
    assert "/dev/null/results cannot hold the results (Not a directory); name with --out" in str(result.exception)


def test_without_opacus_the_rows_can_be_left_out() -> None:
    with pytest.raises(ConfigurationError, match="--without dp-sgd"):
        require_opacus("opacus_that_is_not_there")


def test_x_rays_that_the_encoder_may_have_seen_are_refused(archive: Archive, bundle: Path) -> None:
    card = Encoder.load(bundle).card
    refuse_crossing(archive, card)
    with pytest.raises(EncoderError, match="it may have seen those that it would be tested on"):
        refuse_crossing(replace(archive, family="none"), card)


def test_chosen_configurations_are_read_or_refused(tmp_path: Path) -> None:
    assert chosen("another", "subtype", Fraction(1)).kind == "codebook"
    for text, said in (
        ("[default", "cannot be read"),
        ("", "has no configuration for another, subtype; add a table"),
        ('[default.subtype]\n"1" = { kind = "codebook", view = "map 2" }', "at epsilon 1/2; add one"),
        ('[default.subtype]\n"0" = { kind = "codebook", view = "map" }', "describes no release"),
        ('[default.subtype]\n"0" = { kind = "codebook", views = "map 2" }', "describes no release"),
    ):
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(ConfigurationError, match=said):
            chosen("another", "subtype", Fraction(1, 2), tmp_path / "mine.toml")
