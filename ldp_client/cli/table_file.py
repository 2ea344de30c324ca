"""Rows as a file: JSON lines, CSV or Parquet. Rows stream, so a ledger of any length fits."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from ldp_client.errors import ConfigurationError
from ldp_client.new_file import appearing_whole

Row = Mapping[str, Any]
ROWS_AT_ONCE = 50_000
WHOLE_NUMBERS = frozenset({"sequence", "charge", "central_sequence"})


class FileKind(StrEnum):
    """What a file of rows is written as. `proof` is the whole ledger as an auditor verifies it."""

    PROOF = "proof"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def write_rows(rows: Iterable[Row], path: Path, kind: FileKind, columns: Sequence[str]) -> int:
    """Write rows, which all have these columns, into a new file; how many there were.

    Raises:
        ConfigurationError: the file exists or cannot be made, or Parquet's library is not installed. No file is left.
    """
    write = {FileKind.JSONL: _write_jsonl, FileKind.CSV: _write_csv, FileKind.PARQUET: _write_parquet}[kind]
    with appearing_whole(path) as part:
        return write(iter(rows), part, columns)


def _write_jsonl(rows: Iterator[Row], path: Path, columns: Sequence[str]) -> int:
    del columns
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(row), separators=(",", ":")) + "\n")
            count += 1
    return count


def _write_csv(rows: Iterator[Row], path: Path, columns: Sequence[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def _write_parquet(rows: Iterator[Row], path: Path, columns: Sequence[str]) -> int:
    try:
        # Loaded when it is asked for: a hospital's base installation does without.
        pyarrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs the extra `parquet`: pip install 'ldp-glow[parquet]', or ask for jsonl or csv"
        ) from error
    # A column's type is that of its name, not of its first value, which may be missing.
    fields = [(name, pyarrow.int64() if name in WHOLE_NUMBERS else pyarrow.string()) for name in columns]
    schema, count = pyarrow.schema(fields), 0
    with parquet.ParquetWriter(path, schema) as writer:
        while part := [dict(row) for row in islice(rows, ROWS_AT_ONCE)]:
            writer.write_table(pyarrow.Table.from_pylist(part, schema=schema))
            count += len(part)
    return count
