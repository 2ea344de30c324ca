"""Documents are code: what they show runs, and what they name is there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import in_words

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
SOURCES = sorted(path for part in ("ldp_client", "server", "examples") for path in (ROOT / part).rglob("*.py"))
CITED = re.compile(r"\bdocs/[\w./-]*\w")
NAMED = re.compile(r"`((?:ldp_client|server|tests|examples|docs)/[\w./-]+)`")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_example_in_a_document_runs_and_prints_what_it_says(document: Path) -> None:
    outcome = doctest.testfile(str(document), module_relative=False)
    assert outcome.failed == 0


def test_privacy_argument_has_examples_that_run() -> None:
    assert doctest.testfile(str(ROOT / "docs" / "privacy.md"), module_relative=False).attempted >= 10


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(document: Path) -> None:
    targets = [target for target in LINK.findall(document.read_text()) if not target.startswith("http")]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    named = NAMED.findall(document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_document_that_the_code_cites_is_there() -> None:
    """A decision may be cited by its number alone: docs/decisions/0035."""
    cited = {(document, name(source)) for source in SOURCES for document in CITED.findall(source.read_text())}
    assert len(cited) > 10
    assert [found for found in sorted(cited) if not {*ROOT.glob(found[0]), *ROOT.glob(f"{found[0]}-*.md")}] == []


def test_every_claim_names_a_test_that_is_there() -> None:
    rows = [line for line in (ROOT / "docs" / "claims.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows[1:]:
        assert any((ROOT / path).exists() for path in re.findall(r"`(tests/[\w./-]+)`", row.split("|")[4])), row


def test_readme_commands_are_make_targets() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    asked = set(re.findall(r"\bmake ([a-z][a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "demo-patients"} <= asked <= targets


def test_readme_claims_of_a_record_what_is_proved_and_no_more() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    proved = in_words(PrivacyLoss.of(2), "record")
    for figure in ("at best 88.1 % of the time instead of 50 %", "carries at most 2.2 bits"):
        assert figure in text
        assert figure in proved
    assert "recognisable" not in text


def test_index_leads_to_every_document() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    linked = set(LINK.findall(index))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= linked
