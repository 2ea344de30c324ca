"""Probabilities beside scores: what a bundle may say, what is refused, what `ldp-client diagnose` prints of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bundles import a_bundle, a_card
from pydantic import ValidationError

import ldp_client.cli.main as cli
from ldp_client.diagnosis.bundle import TaughtBy, WeighedBy, read_bundle
from ldp_client.diagnosis.calibration import Calibration, PairCurve
from ldp_client.diagnosis.classifier import LinearModel
from ldp_client.errors import ClassifierError
from ldp_client.imaging.phantoms import phantoms
from ldp_client.imaging.png import png_bytes
from ldp_client.wire.canonical import canonical_bytes

CURVE: dict[str, object] = {
    "negative": "normal",
    "positive": "pneumonia",
    "edges": ("-0.5", "0.5"),
    "probability": (100_000, 100_000, 800_000),
    "low": (0, 50_000, 600_000),
    "high": (300_000, 300_000, 1_000_000),
    "xrays": (300, 100),
}


def a_calibration(*curves: PairCurve) -> Calibration:
    return Calibration(
        evaluation="2" * 64,
        name="held-out-2030",
        judged="3" * 64,
        micro_epsilon_per_unit=1_000_000,
        unit="patient",
        sites=3,
        curves=curves or (PairCurve(**CURVE),),  # type: ignore[arg-type]
    )


def test_a_difference_gets_the_probability_of_its_range_and_an_edge_belongs_to_the_upper_one() -> None:
    curve = PairCurve(**CURVE)  # type: ignore[arg-type]
    values = [curve.of(difference).value for difference in (-9.0, -0.5, 0.49, 0.5, 9.0)]
    assert values == [0.1, 0.1, 0.1, 0.8, 0.8]
    one = curve.of(-0.5)
    assert (one.negative, one.positive, one.low, one.high) == ("normal", "pneumonia", 0.05, 0.3)
    assert curve.share == 0.25
    assert a_calibration().of({"normal": 0.3, "pneumonia": -0.3})[0].value == 0.1
    assert a_calibration().of({"normal": -0.3, "pneumonia": 0.3})[0].value == 0.8


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"probability": (100_000, 90_000, 800_000), "low": (0, 0, 0)}, "never makes the second label less probable"),
        ({"probability": (100_000, 100_000, 1_000_001)}, "less than or equal to 1000000"),
        ({"low": (-1, 0, 0)}, "greater than or equal to 0"),
        ({"probability": (0.1, 0.1, 0.8)}, "valid integer"),
        ({"high": (300_000, 300_000, 700_000)}, "each probability lies within its interval"),
        ({"low": (0, 200_000, 600_000)}, "each probability lies within its interval"),
        ({"edges": ("0.5", "-0.5")}, "edges of a calibration ascend"),
        ({"edges": ("0.5", "0.5")}, "edges of a calibration ascend"),
        ({"edges": ("0.5",)}, "3 probabilities need as many bounds on both sides and 2 edges"),
        ({"low": (0,)}, "3 probabilities need as many bounds on both sides and 2 edges"),
        ({"edges": ("nan", "1")}, "match pattern"),
        ({"edges": (), "probability": (), "low": (), "high": ()}, "at least 1 item"),
        ({"probability": (0,) * 5000}, "at most 4096 items"),
        ({"xrays": (0, 5)}, "greater than or equal to 1"),
    ],
)
def test_a_curve_that_is_none_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        PairCurve(**(CURVE | changes))  # type: ignore[arg-type]


def test_curves_belong_to_the_labels_of_the_card() -> None:
    for curves in (
        (PairCurve(**(CURVE | {"positive": "effusion"})),),  # type: ignore[arg-type]
        (PairCurve(**(CURVE | {"negative": "pneumonia", "positive": "normal"})),),  # type: ignore[arg-type]
        (PairCurve(**CURVE), PairCurve(**CURVE)),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValidationError, match="at most one curve for each pair of the labels, in their order"):
            a_card(calibration=a_calibration(*curves))


def test_a_card_without_calibration_or_student_keeps_the_bytes_it_always_had() -> None:
    body = canonical_bytes(a_card())
    assert {"calibration", "student"} & json.loads(body).keys() == set()
    assert read_bundle(body).card == a_card()
    with_both = canonical_bytes(a_card(model=WIDE, calibration=a_calibration(), student=a_student()))
    assert read_bundle(with_both).card.calibration == a_calibration()


def test_a_hostile_calibration_is_refused_by_whoever_loads_the_bundle() -> None:
    honest = json.loads(canonical_bytes(a_card(calibration=a_calibration())))
    for name, value in (("probability", [800_000, 100_000, 100_000]), ("xrays", [-5, 10]), ("edges", ["1e9", "2"])):
        hostile = json.loads(json.dumps(honest))
        hostile["calibration"]["curves"][0][name] = value
        with pytest.raises(ClassifierError, match="is not a classifier's card"):
            read_bundle(json.dumps(hostile, sort_keys=True, separators=(",", ":")).encode())


WIDE = LinearModel(source="bottleneck", mean=(("0.5",) * 16,))
"""A classifier of the sixteen coordinates that a student reads."""


def a_student(**changes: object) -> TaughtBy:
    fields: dict[str, object] = {
        "xrays": 2000,
        "pixels_sha256": "4" * 64,
        "coordinates": 16,
        "released": 6,
        "shares": (400_000, 600_000),
        "shares_from": "estimated",
    }
    return TaughtBy(**(fields | changes))  # type: ignore[arg-type]


def test_the_card_of_a_student_says_what_it_assumes_and_what_its_noise_error_is() -> None:
    told = " ".join(a_card(model=WIDE, student=a_student()).lines())
    assert "2000 public X-rays without labels (pixels 444444444444), 16 coordinates, of which the records had 6" in told
    assert "shares of the labels among them (estimated): normal 40 %, pneumonia 60 %" in told
    assert "moves each coordinate of the records' mean by 0.0125 (one standard deviation)" in told
    assert "moves each number learnt" not in told
    with pytest.raises(ValidationError, match="a student has a share for each label"):
        a_card(model=WIDE, student=a_student(shares=(333_333, 333_333, 333_333)))


def test_the_card_of_a_head_says_what_was_weighed() -> None:
    head = WeighedBy(xrays=2000, pixels_sha256="4" * 64, coordinates=16, released=6)
    told = " ".join(a_card(model=WIDE, head=head).lines())
    assert "weighed by a head on 2000 public X-rays without labels (pixels 444444444444), 16 coordinates" in told
    assert "moves each coordinate of the records' mean by 0.0125 (one standard deviation)" in told
    assert "head" not in json.loads(canonical_bytes(a_card()))
    with pytest.raises(ValidationError, match="a head scores at least the 17 coordinates that were released"):
        WeighedBy(**(head.model_dump() | {"released": 17}))
    for taught in ({"head": head}, {"student": a_student()}):
        with pytest.raises(
            ValidationError, match="a head or a student reads the coordinates that the classifier scores"
        ):
            a_card(**taught)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shares": (0, 0)}, "the shares of the labels add up to 1"),
        ({"shares": (1_000_000, 1_000_000)}, "the shares of the labels add up to 1"),
        ({"shares": (-400_000, 1_400_000)}, "greater than or equal to 0"),
        ({"shares": (1_000_000,)}, "at least 2 items"),
        ({"released": 17}, "a student reads at least the 17 coordinates that were released"),
        ({"xrays": 0}, "greater than or equal to 1"),
        ({"shares_from": "guessed"}, "'estimated', 'hospitals' or 'given'"),
        ({"pixels_sha256": "4" * 63}, "pixels_sha256"),
    ],
)
def test_a_student_that_cannot_have_been_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        a_student(**changes)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    a_bundle(tmp_path / "classifier", calibration=a_calibration())
    (tmp_path / "one.png").write_bytes(png_bytes(phantoms(1, 28, seed=5, pneumonia_share=0.5)[0][0]))
    return tmp_path


def diagnosed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    sys.argv = ["ldp-client", "diagnose", "--classifier", "classifier", "one.png", *arguments]
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    return capsys.readouterr().out


def test_diagnose_prints_the_probability_and_for_whom_it_holds(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (report,) = json.loads(diagnosed(capsys, "--format", "json"))
    (one,) = report["scored"]
    difference = one["scores"]["pneumonia"] - one["scores"]["normal"]
    (found,) = one["probabilities"]
    expected = 0.1 if difference < 0.5 else 0.8
    assert (found["negative"], found["positive"], found["value"]) == ("normal", "pneumonia", expected)
    told = " ".join(diagnosed(capsys).split())
    assert "P(pneumonia, not normal)" in told
    assert f"{expected:.2f} (" in told
    assert "they hold where 25 % of the X-rays of the two are pneumonia, as among 400 there" in told
    a_bundle(place / "plain")
    (report,) = json.loads(diagnosed(capsys, "--format", "json", "--classifier", "plain"))
    assert "probabilities" not in report["scored"][0]
