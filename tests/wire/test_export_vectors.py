"""Whole exports in files: the golden one verifies for ever, each bad one is refused for the fault in its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ldp_client.errors import VerificationError
from ldp_client.verify import verify_export
from tests.client.second_reader import Refused, read_site_export
from tests.vectors.build_exports import main

FOLDER = Path(__file__).parent.parent / "vectors" / "exports"
WORDS: dict[str, str] = json.loads((FOLDER / "refused.json").read_text())


def test_the_builder_reproduces_every_file_byte_for_byte(tmp_path: Path) -> None:
    main(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.iterdir()
    }
    assert len(WORDS) >= 30


def test_the_golden_export_verifies_to_both_readers() -> None:
    verified = verify_export(FOLDER / "site.jsonl")
    assert (verified.sequence, verified.receipts, verified.reached) == (10, 2, {"site-a": 10})
    assert read_site_export(FOLDER / "site.jsonl").heads[-1] == verified.head


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_bad_export_is_refused_by_both_readers_and_by_the_first_in_words(name: str) -> None:
    with pytest.raises(VerificationError) as refused:
        verify_export(FOLDER / f"{name}.jsonl")
    assert WORDS[name] in str(refused.value)
    assert refused.value.exit_code == 6
    with pytest.raises((Refused, KeyError, ValueError)):
        read_site_export(FOLDER / f"{name}.jsonl")
