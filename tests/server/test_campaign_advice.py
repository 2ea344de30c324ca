"""`ldp-server campaign advise`: the comparison as people and programs read it, and questions that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ldp_client.flow.installed import open_bundle
from server.cli.advice import usual_coordinates
from server.cli.campaign import app

ASKED = ["advise", "--epsilon", "2", "--records", "2700"]


def test_advice_is_a_table_for_programs_and_words_for_people() -> None:
    asked = [*ASKED, "--dimension", "2", "--auc", "0.9"]
    rows = json.loads(CliRunner().invoke(app, [*asked, "--format", "json"]).output)
    (chosen,) = [row for row in rows if row["recommended"]]
    assert chosen["keys"] == {"mechanism": "joint_codebook", "coordinates": 2, "label_code": "simplex"}
    assert "dp_glow" not in {row["release"] for row in rows}  # nobody said how many latents there are
    words = CliRunner().invoke(app, asked).output
    assert 'campaign.toml: mechanism = "joint_codebook", coordinates = 2, label_code = "simplex"' in words


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ([], "say --dimension or --encoder"),
        (["--dimension", "99", "--encoder", "shipped:kermany28"], "coordinates; found 99"),
        (
            ["--dimension", "2", "--prevalence", "a,b"],
            "a prevalence is written as shares such as 0.75,0.25; found 'a,b'",
        ),
        (
            ["--dimension", "2", "--prevalence", "0.5,0.5", "--classes", "3"],
            "3 labels need as many shares of a prevalence; found 2",
        ),
        (["--dimension", "2", "--classes", "1"], "at least 2 labels; found 1"),
    ],
)
def test_questions_without_an_answer_are_refused(more: list[str], text: str) -> None:
    assert text in str(CliRunner().invoke(app, [*ASKED, *more]).exception)


def test_an_encoder_is_asked_about_as_many_coordinates_as_a_campaign_takes_of_it() -> None:
    asked = [*ASKED, "--auc", "0.9", "--format", "json"]
    k = usual_coordinates(open_bundle("shipped:kermany28", Path()).dimension)
    said = CliRunner().invoke(app, [*asked, "--encoder", "shipped:kermany28", "--dimension", str(k)])
    unsaid = CliRunner().invoke(app, [*asked, "--encoder", "shipped:kermany28"])
    assert json.loads(said.output) == json.loads(unsaid.output)
    assert [usual_coordinates(given) for given in (1, 2, 4, 16)] == [1, 2, 4, 4]
