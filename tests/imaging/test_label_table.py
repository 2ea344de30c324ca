"""The labels file: what it may say, and that a refusal names the row but never repeats it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldp_client.errors import ConfigurationError
from ldp_client.imaging.label_table import read_label_table


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_label_table(written(folder, text))
    message = str(caught.value)
    assert "labels.csv" in message
    assert "Mustermann" not in message
    assert caught.value.__context__ is None
    return message


def test_rows_are_known_by_their_file(tmp_path: Path) -> None:
    text = '\ufefffile,patient,label\na.png,P 1,normal\n\nsub/b.png,"P,2", pneumonia \n'
    table = read_label_table(written(tmp_path, text))
    assert {name: (row.label, row.patient) for name, row in table.items()} == {
        "a.png": ("normal", "P 1"),
        "sub/b.png": ("pneumonia", "P,2"),
    }


def test_without_a_patient_column_no_row_names_one(tmp_path: Path) -> None:
    assert read_label_table(written(tmp_path, "file,label\na.png,normal\n"))["a.png"].patient is None


@pytest.mark.parametrize(
    "header", ["file", "file;label", "file,label,Mustermann", "file,label,label", "", "a.png,normal"]
)
def test_another_header_is_refused_without_repeating_it(tmp_path: Path, header: str) -> None:
    message = refusal(tmp_path, f"{header}\na.png,normal\n")
    assert "row 1: expected the header file,label or file,label,patient; found" in message


def test_a_row_with_another_number_of_fields_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "file,label\na.png,normal\nMustermann.png\n")
    assert "row 3: expected 2 fields, as in its header; found 1" in message


def test_a_second_row_for_one_file_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "file,label\nMustermann.png,normal\n./Mustermann.png,pneumonia\n")
    assert "row 3: expected one row for each file; found a second row for the file of row 2" in message


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.png", "sub/../../a.png", "C:/a.png", "sub\\a.png", "a\0.png", "", "."]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path, f"file,label\n{name},normal\n")
    assert 'row 2: expected a file inside the data folder, with "/" between folders; found another path' in message


def test_another_encoding_is_refused_with_its_row(tmp_path: Path) -> None:
    message = refusal(tmp_path, "file,label\na.png,normal\nMüller.png,normal\n".encode("latin-1"))
    assert "row 3: expected UTF-8 text; found another encoding; save it as CSV UTF-8" in message


def test_an_open_quote_is_refused_with_its_row(tmp_path: Path) -> None:
    message = refusal(tmp_path, 'file,label\n"a.png"x,normal\n')
    assert "row 2: expected comma-separated text with quotes in pairs" in message


def test_a_missing_labels_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.csv; it cannot be read \(No such file or directory\); name a"):
        read_label_table(tmp_path / "none.csv")


def test_a_huge_labels_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ConfigurationError, match="at most 64 MiB; divide the data set"):
        read_label_table(path)
