"""The labels file: which file shows what, and of whom. Its messages name rows, never what stands in them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ldp_client.errors import ConfigurationError

_EXPECTED = "file,label or file,label,patient"
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Row:
    """One line: the label as written, and the patient id as written (None without that column)."""

    label: str = field(repr=False)
    patient: str | None = field(repr=False)


def read_label_table(path: Path) -> dict[str, Row]:
    """Return the rows of a labels file by the file they name (relative to the data folder, with "/").

    The file is UTF-8 (a byte order mark is allowed), comma-separated, with the header `file,label` or
    `file,label,patient` in any order.

    Raises:
        ConfigurationError: not such a file, two rows for one file, or a name that leaves the folder.
    """
    text = _read_text(path)
    rows: dict[str, Row] = {}
    first_row: dict[str, int] = {}
    fault = None
    number = 1
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = _columns(path, next(reader, []))
        for cells in reader:
            number = reader.line_num
            if not cells:
                continue
            if len(cells) != len(columns):
                raise _fault(path, number, f"{len(columns)} fields, as in its header", f"{len(cells)}")
            values = dict(zip(columns, cells, strict=True))
            name = _file_name(path, number, values["file"])
            if name in rows:
                raise _fault(
                    path, number, "one row for each file", f"a second row for the file of row {first_row[name]}"
                )
            rows[name] = Row(values["label"].strip(), values.get("patient"))
            first_row[name] = number
    except csv.Error:
        fault = _fault(path, number + 1, "comma-separated text with quotes in pairs", "something else")
    if fault is not None:
        raise fault
    return rows


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"asked for the labels file {path}; it cannot be read ({error.strerror}); name a file with {_EXPECTED}"
        ) from None
    if len(data) > _MAX_BYTES:
        raise ConfigurationError(f"{path}: a labels file has at most {_MAX_BYTES >> 20} MiB; divide the data set")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
    # Outside the handler: the decoding error carries the bytes.
    raise _fault(path, row, "UTF-8 text", "another encoding; save it as CSV UTF-8")


def _columns(path: Path, header: list[str]) -> list[str]:
    columns = [cell.strip() for cell in header]
    known = [name for name in columns if name in ("file", "label", "patient")]
    if len(known) != len(columns) or len(set(known)) != len(known) or not {"file", "label"} <= set(known):
        # The names found are not repeated: without a header the first row is a patient's.
        raise _fault(
            path, 1, f"the header {_EXPECTED}", f"{len(columns)} columns, {len(set(known))} of them among the expected"
        )
    return columns


def _file_name(path: Path, number: int, written: str) -> str:
    name = PurePosixPath(written.strip())
    # Drive letters and backslashes mean a path on Windows and a plain name here: neither is let through.
    outside = name.is_absolute() or ".." in name.parts or "\\" in written or "\0" in written or written[1:2] == ":"
    if outside or not name.parts:
        raise _fault(path, number, 'a file inside the data folder, with "/" between folders', "another path")
    return str(name)


def _fault(path: Path, row: int, expected: str, found: str) -> ConfigurationError:
    return ConfigurationError(f"{path}, row {row}: expected {expected}; found {found}; correct the row and try again")
