"""What the officer can ask of the site's ledger, and the patient who is named on this machine only."""

from __future__ import annotations

import csv
import datetime
import io
import json
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from ldp_client.cli import table_file
from ldp_client.errors import ConfigurationError, FormatError, VerificationError
from ldp_client.export import write_export, write_openings
from ldp_client.openings import check_openings, main
from ldp_client.site import data_set
from ldp_client.wire.chain import charge_body, subject_commitment
from tests.client.test_cli import Terminal
from tests.client.world import TODAY, MakeWorld, World, make_campaign

DAY = TODAY.isoformat()
EXPORT = ("ledger", "export", "--as")
PATIENTS = ["P-1", "P-1", "P-2", "P-3", "P-3", "P-3"]


@pytest.fixture
def released(new_world: MakeWorld) -> World:
    """Six X-rays of three patients; the campaign takes at most two of each."""
    world = new_world(make_campaign(name="patients", unit="patient", cap=2), count=6, patients=PATIENTS)
    world.release()
    return world


@pytest.fixture
def ldp(released: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(released.folder)
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal(released.folder, monkeypatch, capsys)


def asked(ldp: Terminal, *arguments: str) -> list[dict[str, object]]:
    assert ldp(*arguments, "--format", "json") == 0, ldp.err
    rows: list[dict[str, object]] = json.loads(ldp.out)
    return rows


def types(patient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(patient + "\n"))


def test_log_lists_every_entry_with_its_campaign_and_day(ldp: Terminal) -> None:
    rows = asked(ldp, "ledger", "log")
    assert [row["kind"] for row in rows] == ["genesis", "policy", "approval", *["charge"] * 5, *["seal"] * 5]
    assert {row["campaign"] for row in rows[3:]} == {"patients"}
    assert {row["day"] for row in rows[3:]} == {DAY}
    assert [row["charge"] for row in rows[8:]] == [4, 5, 6, 7, 8]
    assert (rows[3]["epsilon"], rows[0]["campaign"], rows[0]["day"]) == ("2", None, None)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--campaign", "patients"), 10),
        (("--since", DAY), 10),
        (("--until", DAY), 10),
        (("--since", "2030-01-16"), 0),
        (("--until", "2030-01-14"), 0),
    ],
    ids=str,
)
def test_log_is_filtered(ldp: Terminal, options: tuple[str, ...], count: int) -> None:
    assert len(asked(ldp, "ledger", "log", *options)) == count


def test_a_patient_is_typed_in_and_named_nowhere(ldp: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    types(" p-3 ".upper(), monkeypatch)
    rows = asked(ldp, "ledger", "log", "--patient")
    assert [row["kind"] for row in rows] == ["charge", "charge", "seal", "seal"]
    assert "P-3" not in ldp.out + ldp.err
    types("P-2", monkeypatch)
    spent, total = asked(ldp, "budget", "show", "--patient")
    assert (spent["charges"], spent["cap"], spent["spent"]) == (1, 2, "2")
    assert total["spent"] == "2 of 8, 6 left"
    assert ldp.err == ""
    types("P-3", monkeypatch)
    (row,) = asked(ldp, "budget", "history", "--patient")
    assert (row["day"], row["charges"], row["spent_so_far"]) == (DAY, 2, "4")
    types("P-4", monkeypatch)
    assert asked(ldp, "budget", "show", "--patient")[-1]["spent"] == "0 of 8, 8 left"
    assert "nothing was ever charged for this id" in ldp.err
    assert "P-4" not in ldp.out + ldp.err
    types("", monkeypatch)
    ldp.refused(2, "no patient id was given; type it, or give it as a line", "ledger", "log", "--patient")


def test_history_says_what_was_charged_on_which_day(ldp: Terminal) -> None:
    (row,) = asked(ldp, "budget", "history")
    assert row == {
        "day": DAY,
        "campaign": "patients",
        "charges": 5,
        "epsilon_per_record": "2",
        "bound_per_unit_so_far": "4",
    }
    assert asked(ldp, "budget", "history", "--since", "2031-01-01") == []


def test_sums_of_a_part_of_the_history_hold_what_came_before(ldp: Terminal, released: World) -> None:
    """Or somebody who asks about this month would read less than was spent."""
    released.campaigns.append(make_campaign(name="later", unit="patient", cap=1))
    released.offer()
    released.release(released.agent(today=lambda: TODAY + datetime.timedelta(days=1)))
    (row,) = asked(ldp, "budget", "history", "--since", "2030-01-16")
    assert (row["campaign"], row["bound_per_unit_so_far"]) == ("later", "6")
    (row,) = asked(ldp, "budget", "history", "--until", DAY)
    assert (row["campaign"], row["bound_per_unit_so_far"]) == ("patients", "4")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_mistyped_export_of_rows_can_be_made_again(ldp: Terminal, kind: str) -> None:
    ldp.refused(2, "0 campaigns are called 'patient'", *EXPORT, kind, "--out", "x", "--campaign", "patient")
    assert ldp(*EXPORT, kind, "--out", "x", "--since", "2031-01-01") == 0, ldp.err
    columns = ["sequence", "kind", "campaign", "epsilon", "charge", "day", "head"]
    if kind == "csv":
        assert Path("x").read_text() == ",".join(columns) + "\n"
    if kind == "parquet":
        assert pyarrow.parquet.read_table("x").column_names == columns
    ldp.refused(2, "cannot be made (File exists); name a new file", *EXPORT, kind, "--out", "x")
    ldp.refused(2, "cannot be made (No such file or directory)", *EXPORT, kind, "--out", "nowhere/x")


def test_day_that_is_none_is_refused(ldp: Terminal) -> None:
    ldp.refused(2, "a day is written YYYY-MM-DD, such as 2027-03-31; found 'soon'", "ledger", "log", "--since", "soon")


@pytest.mark.parametrize("command", [("ledger", "log"), ("budget", "history")])
def test_a_time_that_ends_before_it_begins_is_refused(ldp: Terminal, command: tuple[str, ...]) -> None:
    text = "--until 2030-01-01 lies before --since 2030-02-01, so nothing can be found; exchange them"
    ldp.refused(2, text, *command, "--since", "2030-02-01", "--until", "2030-01-01")


def test_one_entry_is_shown_in_full(ldp: Terminal, released: World) -> None:
    shown = {str(row["field"]): row["value"] for row in asked(ldp, "ledger", "show", "4")}
    assert (shown["kind"], shown["micro_epsilon"], shown["approval"]) == ("charge", "2000000", "3")
    assert (shown["head"], shown["receipted"]) == (released.site.ledger.head_at(4), "no")
    ldp.refused(2, "the ledger has no entry 99; it ends at entry 13", "ledger", "show", "99")
    # More than the database can be asked for.
    assert ldp("ledger", "show", "9" * 30) == 2
    assert "is not in the range" in ldp.err


def test_log_is_written_as_json_lines_csv_and_parquet(ldp: Terminal) -> None:
    expected = asked(ldp, "ledger", "log", "--campaign", "patients")
    for kind in ("jsonl", "csv", "parquet"):
        assert ldp("ledger", "export", "--as", kind, "--out", f"log.{kind}", "--campaign", "patients") == 0, ldp.err
        assert ldp.out == f"wrote 10 entries to log.{kind}\n"
    assert [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()] == expected
    with Path("log.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [{name: "" if value is None else str(value) for name, value in row.items()} for row in expected]
    assert pyarrow.parquet.read_table("log.parquet").to_pylist() == expected
    for kind in ("jsonl", "csv", "parquet"):
        empty = ("ledger", "export", "--as", kind, "--out", f"none.{kind}", "--since", "2031-01-01")
        assert ldp(*empty) == 0, ldp.err
    ldp.refused(
        2, "cannot be made (File exists); name a new file", "ledger", "export", "--as", "csv", "--out", "log.csv"
    )


def test_a_part_of_a_ledger_is_no_proof(ldp: Terminal) -> None:
    ldp.refused(2, "a part of a ledger proves nothing", "ledger", "export", "--out", "x", "--campaign", "patients")


def test_parquet_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ldp-glow\[parquet\]', or ask for jsonl or csv"):
        table_file.write_rows([{"a": "b"}], tmp_path / "x", table_file.FileKind.PARQUET, ["a"])
    assert not (tmp_path / "x").exists()


def test_two_ids_of_one_patient_are_merged_on_purpose(
    ldp: Terminal, released: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ldp.refused(2, "a merge can't be taken back; say with --yes", "patient", "merge")
    types("P-1\nP-2", monkeypatch)
    assert ldp("patient", "merge", "--yes") == 0
    assert ldp.out == "the two ids are one patient now, who has spent epsilon 6 of 8; 2 left\n"
    types("P-2\nP-1", monkeypatch)
    ldp.refused(2, "counted as one patient already", "patient", "merge", "--yes")
    units = {item.patient for item in data_set(released.site, released.campaign).items}
    assert len(units) == 2
    # Whichever of the ids is asked for, the answers are of both.
    for known in ("P-1", "P-2"):
        types(known, monkeypatch)
        (row,) = asked(ldp, "budget", "history", "--patient")
        assert (row["charges"], row["spent_so_far"]) == (3, "6")
        types(known, monkeypatch)
        assert len(asked(ldp, "ledger", "log", "--patient")) == 6
    with released.site.alone():
        types("P-1\nP-3", monkeypatch)
        ldp.refused(5, "an agent works for site north already; stop it first", "patient", "merge", "--yes")


# --- the cap per patient, proved


@pytest.fixture
def proof(released: World, tmp_path: Path) -> tuple[Path, Path]:
    export, openings = tmp_path / "export.jsonl", tmp_path / "openings.jsonl"
    write_export(released.site, export)
    assert write_openings(released.site, openings) == 5
    return export, openings


def test_cap_per_patient_is_proved_from_the_openings(
    proof: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    export, openings = proof
    assert openings.stat().st_mode & 0o777 == 0o600
    proved = check_openings(export, openings)
    assert (proved.charges, proved.units, str(proved.largest), str(proved.bound)) == (5, 3, "4", "4")
    assert main([str(export), str(openings)]) == 0
    assert "5 charges of 3 units opened: every commitment holds" in capsys.readouterr().out


def changed(openings: Path, change: str) -> None:
    lines = openings.read_text().splitlines(keepends=True)
    if change == "missing":
        del lines[2]
    elif change == "left over":
        lines.append(lines[-1].replace('"charge":8', '"charge":99'))
    elif change == "another's":
        rows = [json.loads(line) for line in openings.read_text().splitlines()]
        rows[1]["unit"] = next(row["unit"] for row in rows if row["unit"] != rows[1]["unit"])
        lines = [json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows]
    else:
        lines[0] = lines[0].replace(":", " :", 1)
    openings.write_text("".join(lines))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("missing", "entry 6: this charge has no opening"),
        ("left over", "entry 99: there is an opening of it, but no such charge"),
        ("another's", "entry 5: the opening is not what this charge has committed to"),
        ("damaged", "line 1 of the openings is damaged"),
    ],
)
def test_openings_that_say_something_else_are_refused(
    proof: tuple[Path, Path], change: str, refusal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(proof[1], change)
    with pytest.raises((VerificationError, FormatError), match=refusal):
        check_openings(*proof)
    assert main([str(path) for path in proof]) == 6
    assert "NOT proved" in capsys.readouterr().err


def test_unit_past_its_cap_is_found(released: World, tmp_path: Path) -> None:
    """A site whose ledger let one patient through more often than the campaign allows."""
    ledger = released.site.ledger
    _, unit, _ = next(ledger.openings())
    with ledger._transaction() as connection:
        for number in range(2):
            other = bytes([number]) * 32
            body = charge_body(subject_commitment(unit, other), released.name, 3, 2_000_000)
            (sequence,) = ledger._chain("charge", [body])
            row = (sequence, released.name, unit, other, other, 2_000_000)
            connection.execute("INSERT INTO openings VALUES (?, ?, ?, ?, ?, ?)", row)
    write_export(released.site, tmp_path / "export.jsonl")
    write_openings(released.site, tmp_path / "openings.jsonl")
    with pytest.raises(VerificationError, match="charged more often for campaign patients than its cap of 2 allows"):
        check_openings(tmp_path / "export.jsonl", tmp_path / "openings.jsonl")


def test_openings_are_written_only_on_purpose(ldp: Terminal) -> None:
    ldp.refused(2, "must not leave the hospital; say with --yes", "ledger", "openings", "--out", "openings.jsonl")
    assert ldp("ledger", "openings", "--out", "openings.jsonl", "--yes") == 0
    assert ldp.out.startswith("wrote 5 openings to openings.jsonl")
    ldp.refused(2, "cannot be made (File exists)", "ledger", "openings", "--out", "openings.jsonl", "--yes")


def test_openings_program_is_told_its_two_files(proof: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert "usage: python -m ldp_client.openings EXPORT OPENINGS" in capsys.readouterr().out
    assert main([str(proof[0]), str(proof[0].parent / "none")]) == 2
    assert "cannot be read (No such file" in capsys.readouterr().err
