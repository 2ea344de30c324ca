"""Attacks: the likelihoods against what mechanisms do, the ceilings against a broken release, the report's files."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ldp_client.errors import VerificationError
from ldp_client.privacy.release_design import dp_glow, joint_codebook
from ldp_client.privacy.release_spec import ReleaseSpec
from server.benchmarks import attacks
from server.benchmarks.arms import Wanted
from server.benchmarks.attack_report import FIELDS, write
from server.benchmarks.encoded import Encoded
from server.benchmarks.likelihood import Candidates
from server.benchmarks.released import records_of
from server.cli.bench import app

JOINT = (Wanted("codebook", "map 2"), Wanted("laplace", "map 2"))
EVERY = (*JOINT, Wanted("codebook", "map 2", "one_hot", "1/2"), Wanted("latent", "map 2"))


def names(wanted: Wanted) -> str:
    return f"{wanted.kind} {wanted.label_code}"


@pytest.mark.parametrize("wanted", EVERY, ids=names)
def test_likelihood_ratios_reach_epsilon_and_never_pass_it(normal: Encoded, wanted: Wanted) -> None:
    release = wanted.spec(Fraction(1), 2)
    outputs = normal.view("map 2")[:40]
    labels = normal.archive.tasks[0].labels[:40]
    which = np.tile(np.arange(40), (40, 1))
    found = Candidates(release, outputs).log_likelihoods(records_of(release, outputs, labels), which)
    spread = found.max((1, 2)) - found.min((1, 2))
    assert found.shape == (40, 40, 2)
    assert spread.max() <= float(release.loss) + 1e-9
    assert spread.max() > 0.9 * float(release.loss)


def test_a_codebooks_likelihood_is_how_often_each_record_comes(normal: Encoded) -> None:
    release = JOINT[0].spec(Fraction(2), 2)
    outputs, label = np.repeat(normal.view("map 2")[:1], 800, axis=0), np.ones(800, dtype=np.int64)
    found = Candidates(release, outputs[:1]).log_likelihoods(
        records_of(release, outputs, label), np.zeros((800, 1), dtype=np.int64)
    )
    said = (found[:, 0, 1] > 0).mean()  # the record's codeword lies near the truth
    subset, codewords = release.codebook.subset, release.codebook.codewords  # type: ignore[union-attr]
    expected = subset * math.exp(2) / (subset * math.exp(2) + codewords - subset)
    assert abs(said - expected) < 6 * math.sqrt(expected * (1 - expected) / 800)


def target(encoded: Encoded, kind: str, attempts: int = 200) -> attacks.Target:
    generator = np.random.default_rng(6)
    if kind == "label":
        return attacks.held_xray(encoded, 2, attempts, generator)
    if kind == "same":
        return attacks.same_xray(encoded, attempts, generator)
    return attacks.pictured(encoded, 100, 50, kind == "among", generator)


@pytest.mark.parametrize("wanted", [*JOINT, EVERY[-1]], ids=names)
def test_attacks_grow_with_epsilon_below_their_ceilings(normal: Encoded, wanted: Wanted) -> None:
    small, large = wanted.spec(Fraction(1), 2), wanted.spec(Fraction(30), 2)
    for kind, attack in (("label", attacks.infer_label), ("same", attacks.identify)):
        weak, strong = (attack(target(normal, kind), "map 2", release) for release in (small, large))
        assert weak.holds
        assert weak.success <= weak.ceiling + 0.1
        assert strong.success > weak.success + 0.1
    assert attacks.infer_label(target(normal, "label"), "map 2", small, noised=False).success == 1
    assert attacks.identify_without_noise(target(normal, "same", 100), "map 2", small).success > 0.9


def test_a_release_that_costs_more_than_it_says_is_caught(normal: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = joint_codebook(epsilon=1, classes=2, bottleneck_dimension=2, codewords=512)
    broken = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=2, codewords=512)
    found = attacks.infer_label(target(normal, "label"), "map 2", honest)
    assert found.holds

    def drawn_at_four(release: ReleaseSpec, outputs: attacks.Floats, labels: attacks.Rows) -> object:
        return records_of(broken, outputs, labels)

    monkeypatch.setattr(attacks, "records_of", drawn_at_four)
    assert not attacks.infer_label(target(normal, "label", 800), "map 2", honest).holds


def test_a_picture_is_drawn_of_what_is_in_the_pool_and_its_ceiling_is_enumerated(normal: Encoded) -> None:
    release = JOINT[1].spec(Fraction(1), 2)
    among = target(normal, "among")
    found = attacks.reconstruct(among, "map 2", release)
    assert found.holds
    assert found.ceiling < 0.05  # random pixels share no direction
    assert attacks.reconstruct(among, "map 2", release, noised=False).success > 0.9
    outside = attacks.reconstruct(target(normal, "outside"), "map 2", release)
    assert outside.ceiling == 1
    assert abs(outside.success) < 0.1

    # A density ratio that is a on most candidates and a e^eps on the others, of mean 1, is what the ceiling allows.
    epsilon, best = 1.0, 0.0
    for share in np.linspace(0.01, 0.99, 99):
        low = 1 / (1 - share + share * math.exp(epsilon))
        best = max(best, (1 - share) * (low - 1) ** 2 + share * (low * math.exp(epsilon) - 1) ** 2)
    assert math.sinh(epsilon / 2) ** 2 == pytest.approx(best, rel=1e-2)


def test_another_x_ray_of_the_same_patient_is_never_the_released_one(encoded: Encoded, normal: Encoded) -> None:
    found = attacks.other_xrays_of_the_patient(encoded, 2, np.random.default_rng(7))
    assert found is not None
    patients = encoded.archive.patients
    assert patients is not None
    held = found.which[np.arange(len(found.true)), found.answer]
    assert (patients[held] == patients[found.true]).all()
    assert (held != found.true).all()
    assert ((patients[found.which] == patients[found.true][:, None]).sum(1) == 1).all()
    assert attacks.other_xrays_of_the_patient(normal, 2, np.random.default_rng(7)) is None


def test_the_report_has_every_attack_beside_ceiling_and_noiseless(file: Path, bundle: Path, tmp_path: Path) -> None:
    words = ["attacks", "--data", str(file), "--encoder", str(bundle), "--out", str(tmp_path), "--quick"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "attacks.json").read_text())["rows"]
    assert all(tuple(row) == FIELDS for row in rows)
    assert len({row["attack"] for row in rows}) == 5
    assert {row["release"] for row in rows} == {"no noise", "joint", "latent", "dp_glow"}
    assert (tmp_path / "attacks.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "attacks.csv").read_text().splitlines()) == len(rows) + 1

    rows[-1]["holds"] = False
    with pytest.raises(VerificationError, match=r"1 did not.*release nothing with this version"):
        write(tmp_path, {}, rows)


def test_a_foreign_record_is_no_record_of_the_release(normal: Encoded) -> None:
    outputs, labels = normal.view("map 2")[:1], np.zeros(1, dtype=np.int64)
    everything = dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=2)
    record = records_of(everything, outputs, labels)
    with pytest.raises(TypeError, match="is no record of a joint_codebook release"):
        Candidates(JOINT[0].spec(Fraction(1), 2), outputs).log_likelihoods(record, np.zeros((1, 1), dtype=np.int64))
