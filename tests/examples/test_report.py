"""The demo's account of itself: complete, self-contained, and honest in its words."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.metrics import roc_auc_score

from examples.demo.pictures import budget_png, roc_png, xrays_png
from examples.demo.report import VERIFY, screen, write_report
from examples.demo.result import Curve, DemoResult, Example, SiteRow
from ldp_client.errors import ParameterError
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.wire.campaign import Unit

SIDE = 28
HOSTILE = 'Saint <script>alert(1)</script> & "Sons" [bold]$honest $x^2$'


def _site(site: str, name: str, unit: Unit) -> SiteRow:
    two, budget = PrivacyLoss.of(2), PrivacyLoss.of("8.5")
    return SiteRow(site, name, 1234, two, unit, two, budget, PrivacyLoss.of("6.5"))


@pytest.fixture
def result() -> DemoResult:
    return _result("image")


def _result(unit: Unit, dimension: int = 2) -> DemoResult:
    images, labels = phantoms(6, SIDE, seed=1)
    generator = np.random.default_rng(0)
    test_labels = np.repeat([0, 1], 60)
    clear = test_labels + generator.normal(0, 0.6, 120)
    examples = tuple(
        Example(
            xray=image,
            label=int(label),
            released=tuple(generator.integers(-3000, 3000, dimension).tolist()),
            reconstruction=images.mean(axis=0) + 1,
            label_posterior=(0.37, 0.63),
            likeliest_image=0.002,
        )
        for image, label in zip(images[:3], labels[:3], strict=True)
    )
    return DemoResult(
        data="synthetic chest phantoms",
        unit=unit,
        sites=(_site("north", "North Clinic", unit), _site("coast", "Coast Clinic", unit)),
        release=joint_laplace(epsilon=2, classes=2, bottleneck_dimension=dimension, radius=1),
        label_names=("normal", "pneumonia"),
        encoder="glow-test",
        test_labels=test_labels,
        scores=clear + generator.normal(0, 0.5, 120),
        scores_no_noise=clear,
        examples=examples,
        public_average=images.mean(axis=0),
        public_images=2000,
        ledgers_verified=True,
        verifier_lines=("site ledger of north: verified.", "centre ledger of centre: verified."),
        seconds=12.34,
    )


class _Page(HTMLParser):
    """Tags with their attributes, the text outside of style, and the alternative texts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._style = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.texts.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join([*self.texts, *(values.get("alt") or "" for _, values in self.tags)]).split())


def _written(result: DemoResult, folder: Path) -> str:
    write_report(folder, result)
    return (folder / "report.html").read_text(encoding="utf-8")


def _shown(result: DemoResult, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(screen(result))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_summary_has_exactly_the_promised_keys(result: DemoResult, tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "folder", result)
    summary = json.loads((tmp_path / "new" / "folder" / "summary.json").read_text(encoding="utf-8"))
    assert set(summary) == {
        "data",
        "sites",
        "epsilon",
        "auc",
        "auc_no_noise",
        "test_images",
        "ledgers_verified",
        "seconds",
    }
    site = {"site": "north", "records": 1234, "epsilon_per_record": 2, "unit": "image", "unit_bound": 2}
    assert summary["sites"][0] == {**site, "budget": 8.5, "remaining": 6.5}
    assert len(summary["sites"]) == 2
    assert summary["auc"] == pytest.approx(roc_auc_score(result.test_labels, result.scores))
    assert summary["auc_no_noise"] == pytest.approx(roc_auc_score(result.test_labels, result.scores_no_noise))
    assert (summary["epsilon"], summary["test_images"], summary["ledgers_verified"]) == (2, 120, True)


def test_losses_in_the_summary_are_exact_decimals(result: DemoResult, tmp_path: Path) -> None:
    odd = replace(result.sites[0], unit_bound=PrivacyLoss(333_334), remaining=PrivacyLoss(999_999_999_999))
    write_report(tmp_path, replace(result, sites=(odd,)))
    text = (tmp_path / "summary.json").read_text(encoding="utf-8")
    assert '"unit_bound": 0.333334,' in text
    assert '"remaining": 999999.999999\n' in text


def test_report_fetches_nothing_and_runs_nothing(result: DemoResult, tmp_path: Path) -> None:
    source = _written(result, tmp_path)
    page = _Page(source)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio", "a"}
    assert "http" not in source
    assert "url(" not in source
    assert "@import" not in source
    for _, values in page.tags:
        assert not {"href", "srcset"} & set(values)
        assert not any(name.startswith("on") for name in values)
        assert (values.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    assert "$" not in page.words  # every place of the template is filled


def test_every_picture_has_words_for_those_who_do_not_see_it(result: DemoResult, tmp_path: Path) -> None:
    page = _Page(_written(result, tmp_path))
    alts = [values["alt"] or "" for tag, values in page.tags if tag == "img"]
    assert len(alts) == 3
    assert "Row 3: an X-ray labelled" in alts[0]
    assert "guessed to be pneumonia with 63 %" in alts[0]
    assert "North Clinic: 2 of 8.5 spent, 6.5 left" in alts[1]
    assert f"AUC {result.curve.auc:.3f}" in alts[2]
    assert ("html", {"lang": "en"}) in page.tags


def test_site_names_are_text_and_never_markup(result: DemoResult, tmp_path: Path) -> None:
    hostile = replace(result, sites=(_site("evil", HOSTILE, "image"),), verifier_lines=("<b>$state</b>",))
    source = _written(hostile, tmp_path)
    page = _Page(source)
    assert not [tag for tag, _ in page.tags if tag in ("script", "b")]
    assert HOSTILE in page.words
    assert "<b>$state</b>" in page.words
    assert "[bold]" in _shown(hostile, width=200)


@pytest.mark.parametrize("unit", ["image", "patient"])
def test_patient_is_said_only_where_patients_are_protected(unit: Unit, tmp_path: Path) -> None:
    told = _result(unit)
    everything = _written(told, tmp_path) + _shown(told) + (tmp_path / "summary.json").read_text(encoding="utf-8")
    assert ("patient" in everything.lower()) == (unit == "patient")
    promise = "nothing is promised about a person with several images"
    assert (promise in _Page(everything).words) == (unit == "image")
    assert (promise in " ".join(_shown(told).split())) == (unit == "image")
    assert ("All records of one patient at one site together: At epsilon 2 per patient" in everything) == (
        unit == "patient"
    )


def test_words_that_promise_too_much_do_not_occur(result: DemoResult, tmp_path: Path) -> None:
    words = (_Page(_written(result, tmp_path)).words + _shown(result)).lower()
    assert not re.search(r"anonym|gdpr|compliant|guarantee|per element|impossible", words)
    assert words.count("research use, not a medical device") >= 3


def test_report_tells_what_left_what_it_cost_and_how_to_check(result: DemoResult, tmp_path: Path) -> None:
    words = _Page(_written(result, tmp_path)).words
    assert "2,468 records in all" in words
    assert "No X-ray, no name and no readable label was sent" in words
    assert result.words in words
    assert "right at best 88.1 % of the time" in words
    assert VERIFY in words
    assert "centre ledger of centre: verified." in words
    assert "k = 2, 2 labels, 2 integers per record, L1 clip of radius 1 (1,024 steps of 1/1024)" in words
    assert f"no record can take that above {100 * result.image_ceiling:.2f} %" in words


def test_screen_fits_a_terminal_and_says_the_numbers(result: DemoResult) -> None:
    shown = _shown(result)
    lines = shown.splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 80
    for part in ("North Clinic", "1,234", "8.5", "6.5", "bound per", "remaining", "both ledgers verified"):
        assert part in shown
    assert f"AUC {result.curve.auc:.3f}" in shown
    assert f"{result.curve_no_noise.auc:.3f}" in " ".join(shown.split())
    assert "12 seconds" in shown
    assert "X-ray and label together" in shown


def test_ledgers_that_did_not_verify_are_never_shown_as_good(result: DemoResult, tmp_path: Path) -> None:
    bad = replace(result, ledgers_verified=False)
    assert "LEDGERS NOT VERIFIED" in _shown(bad)
    source = _written(bad, tmp_path)
    assert '<body class="bad">' in source
    assert "did NOT verify" in _Page(source).words
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["ledgers_verified"] is False


@pytest.mark.parametrize("dimension", [1, 2, 40])
def test_pictures_open_and_are_large_enough_to_print(dimension: int, tmp_path: Path) -> None:
    told = _result("image", dimension)
    write_report(tmp_path, told)
    for name in ("xrays.png", "budget.png", "roc.png"):
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert 900 <= picture.width <= 3000, name
            assert 300 <= picture.height <= 3000, name
            low, high = picture.convert("L").getextrema()
            assert (low, high) < (100, 256), name
            assert high == 255, name


def test_pictures_of_one_run_are_the_same_bytes_each_time(result: DemoResult) -> None:
    again = _result("image")
    for draw in (xrays_png, budget_png, roc_png):
        assert draw(result) == draw(again)


def test_a_run_without_examples_or_sites_still_has_a_report(result: DemoResult, tmp_path: Path) -> None:
    page = _Page(_written(replace(result, examples=(), sites=()), tmp_path))
    assert "No example was kept." in page.words


def test_curve_agrees_with_scikit_learn_and_its_band_holds_it() -> None:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 400)
    scores = np.round(labels + generator.normal(0, 1, 400), 1)  # many ties
    curve = Curve.of(labels, scores)
    assert curve.auc == pytest.approx(roc_auc_score(labels, scores))
    assert np.trapezoid(curve.found, curve.false_alarms) == pytest.approx(curve.auc, abs=0.005)
    assert curve.low < curve.auc < curve.high
    # Hanley and McNeil's standard error of an AUC, 1.96 of them each way.
    positives, negatives, a = int(labels.sum()), int((1 - labels).sum()), curve.auc
    spread = a * (1 - a) + (positives - 1) * (a / (2 - a) - a**2) + (negatives - 1) * (2 * a**2 / (1 + a) - a**2)
    assert curve.high - curve.low == pytest.approx(3.92 * (spread / (positives * negatives)) ** 0.5, rel=0.2)
    assert (curve.found_low <= curve.found + 0.02).all()
    assert (curve.found_high >= curve.found - 0.02).all()
    assert Curve.of(labels, scores).low == curve.low


def test_parts_that_do_not_belong_together_are_refused(result: DemoResult) -> None:
    with pytest.raises(ParameterError, match="a site counts by another"):
        replace(result, sites=(_site("north", "North Clinic", "patient"),))
    with pytest.raises(ParameterError, match="2 labels are released, 1 have a name"):
        replace(result, label_names=("normal",))
    with pytest.raises(ParameterError, match="one score per test X-ray"):
        replace(result, scores=result.scores[1:])
    with pytest.raises(ParameterError, match="test X-rays of labels 0 and 1"):
        replace(result, test_labels=np.zeros(120, dtype=np.int64))
    for texts in ({"data": "no Patient ids"}, {"verifier_lines": ("per patient",)}, {"encoder": "patients"}):
        with pytest.raises(ParameterError, match='may say "patient"'):
            replace(result, **texts)
