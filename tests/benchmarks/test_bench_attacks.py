"""Attacks: the likelihoods against what mechanisms do, the ceilings against a broken release, the report's files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
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
    which, theirs = np.tile(np.arange(40), (40, 2)), np.tile(np.repeat([0, 1], 40), (40, 1))
    found = Candidates(release, outputs).log_likelihoods(records_of(release, outputs, labels), which, theirs)
    spread = found.max(1) - found.min(1)
    assert found.shape == (40, 80)
    assert spread.max() <= float(release.loss) + 1e-9
    assert spread.max() > 0.9 * float(release.loss)


def test_a_codebooks_likelihood_is_how_often_each_record_comes(normal: Encoded) -> None:
    release = JOINT[0].spec(Fraction(2), 2)
    outputs, label = np.repeat(normal.view("map 2")[:1], 800, axis=0), np.ones(800, dtype=np.int64)
    found = Candidates(release, outputs[:1]).log_likelihoods(
        records_of(release, outputs, label), np.zeros((800, 1), dtype=np.int64), label[:, None]
    )
    said = (found[:, 0] > 0).mean()  # the record's codeword lies near the truth
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
    for kind in ("label", "same"):
        weak, strong = (attacks.identify(target(normal, kind), "map 2", release) for release in (small, large))
        assert weak.holds
        assert weak.success <= weak.ceiling + 0.1
        assert strong.success > weak.success + 0.1
    assert attacks.identify(target(normal, "label"), "map 2", small, noised=False).success == 1
    assert attacks.identify(target(normal, "same", 100), "map 2", small, noised=False).success > 0.9


def test_a_release_that_costs_more_than_it_says_is_caught(normal: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = joint_codebook(epsilon=1, classes=2, bottleneck_dimension=2, codewords=512)
    broken = joint_codebook(epsilon=4, classes=2, bottleneck_dimension=2, codewords=512)
    found = attacks.identify(target(normal, "label"), "map 2", honest)
    assert found.holds

    def drawn_at_four(release: ReleaseSpec, outputs: attacks.Floats, labels: attacks.Rows) -> object:
        return records_of(broken, outputs, labels)

    monkeypatch.setattr(attacks, "records_of", drawn_at_four)
    assert not attacks.identify(target(normal, "label", 800), "map 2", honest).holds


def test_a_picture_is_drawn_of_what_is_in_the_pool_and_its_ceiling_is_enumerated(normal: Encoded) -> None:
    release = JOINT[1].spec(Fraction(1), 2)
    among = target(normal, "among")
    found = attacks.reconstruct(among, "map 2", release)
    assert found.holds
    assert found.ceiling < 0.05  # random pixels share no direction
    assert attacks.reconstruct(among, "map 2", release, noised=False).success > 0.9
    assert attacks.reconstruct(target(normal, "outside"), "map 2", release).ceiling == 1

    # A density ratio that is a on most candidates and a e^eps on the others, of mean 1, is what the ceiling allows.
    epsilon, best = 1.0, 0.0
    for share in np.linspace(0.01, 0.99, 99):
        low = 1 / (1 - share + share * math.exp(epsilon))
        best = max(best, (1 - share) * (low - 1) ** 2 + share * (low * math.exp(epsilon) - 1) ** 2)
    assert math.sinh(epsilon / 2) ** 2 == pytest.approx(best, rel=1e-2)


@pytest.mark.parametrize("wanted", EVERY, ids=names)
def test_an_x_ray_that_nobody_holds_is_drawn_as_well_as_its_record_says(normal: Encoded, wanted: Wanted) -> None:
    # Pixels that the released coordinates determine, up to where they are cut off.
    weights = np.random.default_rng(3).normal(size=(2, 64))
    pixels = np.clip(128 + 25 * normal.view("map 2") @ weights, 0, 255).astype(np.uint8).reshape(-1, 8, 8)
    shown = Encoded(
        replace(normal.archive, images=pixels),
        "0" * 64,
        normal.bottleneck,
        maps=normal.maps,
        latents=normal.latents,
        contrast=normal.contrast,
    )
    outside = attacks.pictured(shown, 200, 150, False, np.random.default_rng(6))
    found = [attacks.redraw(outside, "map 2", wanted.spec(Fraction(epsilon), 2)) for epsilon in ("1/10", "30")]
    alone = found[0].chance
    assert all(one.ceiling == 1 and one.chance == alone for one in found)
    assert abs(found[0].success - alone) < 0.1
    assert found[1].success > alone + 0.1
    clean = attacks.redraw(outside, "map 2", wanted.spec(Fraction(1), 2), noised=False)
    assert clean.success > 0.8
    assert clean.success > found[1].success - 0.05


def test_who_holds_another_x_ray_goes_by_where_the_record_points(normal: Encoded) -> None:
    # Each X-ray and the next one are of one patient: one label, and coordinates that point nearly the same way.
    generator = np.random.default_rng(9)
    (task,) = normal.archive.tasks
    maps, labels, patients = normal.maps.copy(), task.labels.copy(), np.arange(len(normal.maps)).astype(str)
    hospital = np.flatnonzero(normal.archive.part == "hospital")
    first, second = hospital[::2], hospital[1::2]
    maps[second] = maps[first] + 0.3 * generator.normal(size=(len(first), maps.shape[1]))
    labels[second], patients[second] = labels[first], patients[first]
    archive = replace(normal.archive, patients=patients, tasks=(replace(task, labels=labels),))
    encoded = Encoded(archive, "0" * 64, normal.bottleneck, maps=maps, latents=normal.latents, contrast=normal.contrast)
    another = attacks.other_xrays_of_the_patient(encoded, 1, generator)
    assert another is not None
    wanted = Wanted("codebook", "map 8")
    weak, strong = (wanted.spec(Fraction(epsilon), 2) for epsilon in ("1/2", "16"))
    assert attacks.recognise(another, "map 8", weak).holds
    assert attacks.recognise(another, "map 8", weak).success < 0.05
    found = attacks.recognise(another, "map 8", strong)
    assert found.success > 0.15
    assert attacks.recognise(another, "map 8", strong, noised=False).success > found.success
    # Bayes' rule for the X-ray that was released is right about another question.
    assert attacks.identify(another, "map 8", strong).success < found.success


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
        Candidates(JOINT[0].spec(Fraction(1), 2), outputs).log_likelihoods(record, labels[:, None], labels[:, None])
