"""The audit of the installed engine passes; that of any broken one fails, and says by what."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ldp_client.audit import twins
from ldp_client.audit.attacks import attack_integers, attack_textbook
from ldp_client.audit.engine import INSTALLED, Engine, Integers
from ldp_client.audit.enumeration import enumerations, scripted
from ldp_client.audit.findings import ALPHA, MAX_RANDOM_CHECKS, TOTAL_ALPHA, Audit, Bound
from ldp_client.audit.fit import SCALES, fit_noise
from ldp_client.audit.report import document, folder, html, summary
from ldp_client.audit.run import audit, require_sound
from ldp_client.audit.trials import Trial, trials
from ldp_client.cli.audit import command
from ldp_client.cli.console import refusals
from ldp_client.errors import AuditError, ConfigurationError, ParameterError, VerificationError
from ldp_client.privacy import codebook, randomized_response
from ldp_client.privacy.noise import ByteSource, SystemSource, uniform_below
from tests.audit.reduced import REDUCED


@pytest.fixture(scope="module")
def sound() -> Audit:
    return audit(effort=REDUCED)


def test_installed_engine_passes(sound: Audit) -> None:
    assert sound.failures == ()
    require_sound(sound)


def test_false_alarm_rate_is_what_it_says(sound: Audit) -> None:
    assert pytest.approx(TOTAL_ALPHA) == ALPHA * MAX_RANDOM_CHECKS
    assert 0 < sound.random_checks <= MAX_RANDOM_CHECKS
    assert sound.alpha == pytest.approx(ALPHA * sound.random_checks)
    assert f"{sound.alpha:.1e}" in " ".join(summary(sound))


def test_every_mechanism_and_every_kind_of_release_is_measured(sound: Audit) -> None:
    names = " | ".join(bound.mechanism for bound in sound.bounds if bound.samples)
    for wanted in ("L1 ball", "box", "randomized response", "histogram", "simplex", "one-hot", "latent", "dp_glow"):
        assert wanted in names
    assert names.count("joint codebook") == 2
    assert len([fit for fit in sound.fits if "discrete Laplace" in fit.what]) == 7


def test_exact_bounds_meet_their_claims(sound: Audit) -> None:
    """An attacker's best is the claim itself: were it much less, the enumeration would look at the wrong inputs."""
    exact = [bound for bound in sound.bounds if not bound.samples]
    assert len(exact) >= 10
    assert all(0.999999 <= bound.tightness <= 1.0 for bound in exact)


@pytest.mark.parametrize("trial", trials(), ids=lambda trial: trial.twin)
def test_every_twin_is_caught_and_its_original_is_not(trial: Trial) -> None:
    assert trial.run(REDUCED, SystemSource()).caught
    assert all(one.holds for one in trial.checks(INSTALLED, REDUCED, SystemSource()))


def test_float_control_is_broken_and_ours_is_not() -> None:
    control = attack_textbook(4_000, SystemSource())
    assert control.at_least > control.ceiling
    assert control.verdict == "broken, as it must be"
    assert [one.verdict for one in attack_integers(INSTALLED, 4_000, SystemSource())] == ["holds", "holds"]


def test_control_that_the_attack_cannot_break_fails_the_audit(sound: Audit) -> None:
    weak = replace(sound.attacks[0], at_least=0.5)
    found = replace(sound, attacks=(weak, *sound.attacks[1:]))
    assert weak.verdict == "ATTACK TOO WEAK"
    assert "ATTACK TOO WEAK" in found.failures[0]


BROKEN: dict[str, tuple[Engine, str]] = {
    "laplace": (replace(INSTALLED, laplace=twins.radius_for_diameter), "discrete Laplace, L1 ball claims epsilon 1"),
    "codebook": (replace(INSTALLED, choose=twins.one_too_many), "codebook, 16 codewords"),
    "honest": (
        replace(INSTALLED, respond=lambda spec, labels, source: INSTALLED.respond(spec, labels, source) * 0 + labels),
        "randomized response, 5 labels claims epsilon 3",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_engine_fails_through_the_command(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine, accused = BROKEN[name]
    with pytest.raises(SystemExit) as ended, refusals("ldp-client"):
        command(engine, tried=(), full=REDUCED)(["--out", str(tmp_path)], standalone_mode=False)
    said = capsys.readouterr()
    assert ended.value.code == 6
    assert accused in said.err
    assert "Release nothing with this installation" in said.err
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["holds"] is False
    assert any(accused in failure for failure in written["failures"])
    assert "Do not release" in (tmp_path / "audit.html").read_text()


def test_blind_audit_fails(sound: Audit) -> None:
    """A twin that is no twin is not noticed, and that is a failure too."""
    whole = replace(trials()[4], engine=INSTALLED)
    seen = whole.run(REDUCED, SystemSource())
    assert not seen.caught
    with pytest.raises(AuditError, match=r"the twin 'R instead of 2R' was not noticed"):
        require_sound(replace(sound, twins=(seen,)))


def test_trial_without_checks_catches_nothing() -> None:
    empty = Trial("nothing", INSTALLED, "nothing", lambda engine, effort, source: [])
    assert not empty.run(REDUCED, SystemSource()).caught


def test_command_prints_and_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = replace(REDUCED, name="quick")
    command(tried=trials()[:1], quick=quick)(
        ["--quick", "--format", "json", "--out", str(tmp_path / "new" / "folder")], standalone_mode=False
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "new" / "folder" / "audit.json").read_text())
    assert printed["holds"] is True
    assert printed["effort"] == "quick"
    mechanisms = [row for row in printed["rows"] if "mechanism" in row]
    assert all({"mechanism", "claimed", "lower_bound", "verdict"} <= set(row) for row in mechanisms)
    assert all(row["lower_bound"] <= row["claimed"] for row in mechanisms)
    assert [(row["twin"], row["caught"]) for row in printed["rows"] if "twin" in row] == [("scale x 0.7", True)]
    assert {"alpha", "alpha_per_check", "random_checks", "versions"} <= set(printed)


def test_folder_that_cannot_be_is_refused_before_minutes_of_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be made a folder \(.+\); choose another --out"):
        command(tried=())(["--out", str(tmp_path / "file")], standalone_mode=False)


@pytest.mark.parametrize("writable", [True, False])
def test_folder_must_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool) -> None:
    # Root may write anywhere, so the question is answered for it.
    monkeypatch.setattr("os.access", lambda path, mode: writable)
    if writable:
        assert folder(tmp_path / "new").is_dir()
    else:
        with pytest.raises(ConfigurationError, match="cannot be written to; choose another --out"):
            folder(tmp_path / "new")


def test_page_is_one_file_and_needs_nothing_else(sound: Audit) -> None:
    page = html(sound)
    assert "<script" not in page
    assert "http" not in page
    assert "src=" not in page
    assert "$" not in page
    assert all(bound.mechanism in page for bound in sound.bounds)


def test_unbounded_epsilon_is_null_in_json_and_a_word_on_the_page(sound: Audit) -> None:
    endless = Bound("a mechanism", 1.0, float("inf"), 0, holds=False)
    found = replace(sound, bounds=(endless,))
    row = document(found)["rows"][0]
    assert (row["lower_bound"], row["reached"], row["verdict"]) == (None, None, "VIOLATED")
    assert "unbounded" in html(found)


def test_too_many_random_checks_are_refused_rather_than_miscounted(sound: Audit) -> None:
    with pytest.raises(ParameterError, match=r"divided among 100 random checks; found 1\d\d"):
        replace(sound, fits=sound.fits * 10)


def test_script_that_runs_out_is_no_distribution() -> None:
    source = scripted(b"abcd")
    assert source(3) == b"abc"
    with pytest.raises(VerificationError, match="reads more random bytes than it documents"):
        source(2)


def test_mechanism_that_reads_other_words_is_not_enumerated() -> None:
    def greedy(spec: object, labels: Integers, source: ByteSource) -> Integers:
        source(1)
        return INSTALLED.respond(spec, labels, source)  # type: ignore[arg-type]

    with pytest.raises(VerificationError, match="cannot be enumerated"):
        list(enumerations(replace(INSTALLED, respond=greedy), REDUCED))


@pytest.mark.parametrize("name", ["respond", "choose"])
def test_a_choice_among_one_too_many_is_enumerated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shift K comes back to the true label, and no codeword has the rank s: to no input is either fair."""
    module = {"respond": randomized_response, "choose": codebook}[name]
    monkeypatch.setattr(module, "uniform_below", lambda bounds, source: uniform_below(bounds + 1, source))
    accused = [bound.mechanism for bound in enumerations(INSTALLED, REDUCED) if not bound.holds]
    assert accused
    assert all(one.startswith("randomized response" if name == "respond" else "codebook") for one in accused)


def test_stuck_low_bit_is_seen_at_a_scale_where_no_quantile_moves() -> None:
    def even(scale: Fraction, count: int, source: ByteSource) -> Integers:
        return INSTALLED.noise(scale, count, source) & ~np.int64(1)

    assert not fit_noise(replace(INSTALLED, noise=even), SCALES[-1], 4_000, SystemSource()).holds
