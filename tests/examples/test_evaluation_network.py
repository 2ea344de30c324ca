"""From records to a classifier to its evaluation, with two hospitals and a centre as real processes over Flower."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from examples.demo import network
from examples.demo.hospitals import LABELS, Country, Hospital
from ldp_client.diagnosis.bundle import load
from ldp_client.evaluation_set import evaluation_items
from ldp_client.export import write_export, write_openings
from ldp_client.flow.installed import open_bundle
from ldp_client.imaging.phantoms import phantoms
from ldp_client.officer import approve, policy_in_force, put_into_force
from ldp_client.openings import check_openings
from ldp_client.site import Site, data_set
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import EvaluationRule
from ldp_client.wire.evaluation import Evaluation, asked_id
from ldp_client.wire.signing import SigningKey, read_secret
from server.cli.evaluate import app as evaluate
from server.cli.model import app as model
from server.learning.evaluate import auc

XRAYS, PATIENTS, SECONDS = 90, 60, 240.0
RULE = EvaluationRule(share_percent=50, max_micro_epsilon=8_000_000)


def a_country() -> Country:
    hospitals = []
    for number, name in enumerate(("north", "south")):
        images, labels = phantoms(XRAYS, 28, seed=100 + number)
        patients = tuple(f"{name}-{index % PATIENTS}" for index in range(XRAYS))
        hospitals.append(Hospital(name, f"{name.title()} Hospital", images, labels, patients))
    images, labels = phantoms(8, 28, seed=1)
    return Country(
        description="phantoms",
        encoder="shipped:kermany28",
        unit="patient",
        cap=2,
        epsilon="2",
        lifetime="20",
        public_images=images,
        hospitals=tuple(hospitals),
        test_images=images,
        test_labels=labels,
    )


def allow(site: Site) -> None:
    """The officer's second policy: evaluations as well."""
    policy = policy_in_force(site).model_copy(update={"serial": 2, "evaluations": RULE})
    put_into_force(site, policy, officer(site))


def officer(site: Site) -> SigningKey:
    return SigningKey(read_secret(site.folder.parent / "officer.key"))


def typed(app: object, *arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))  # type: ignore[arg-type]
    assert done.exit_code == 0, (done.output, done.exception)
    return str(done.output)


@pytest.mark.processes
@pytest.mark.timeout(900)
def test_two_hospitals_release_then_judge_what_was_learnt(tmp_path: Path) -> None:
    country = a_country()
    encoder = open_bundle(country.encoder, Path())
    parties = network.build(tmp_path, country, encoder)
    state = ("--state", str(tmp_path / "centre"))
    with contextlib.closing(parties):
        for site in parties.sites.values():
            allow(site)
        held = {
            name: evaluation_items(data_set(site, parties.campaign), policy_in_force(site), site.ledger)
            for name, site in parties.sites.items()
        }
        with network.processes(parties):
            for name in network.wait_for_campaigns(parties, SECONDS):
                network.approve(parties.sites[name], parties.campaign)
            for _ in network.wait_until_finished(parties, SECONDS):
                pass
            typed(model, "export", "pneumonia", "--out", str(tmp_path / "classifier"), *state)
            asked = ("--classifier", str(tmp_path / "classifier"), "--epsilon", "8", "--ends", network.ENDS)
            typed(evaluate, "publish", "held-out", *asked, *state)
            evaluation = parties.centre.find_evaluation("held-out")
            arrive(parties, evaluation)
            for site in parties.sites.values():
                approve(site, evaluation, officer(site))
            for _ in network.wait_until_finished(parties, SECONDS):
                pass

        rows = json.loads(typed(evaluate, "report", "held-out", "--format", "json", *state))
        assert [row["site"] for row in rows] == ["north", "south", "all"]
        for row in rows:
            names = [row["site"]] if row["site"] != "all" else list(parties.sites)
            exact = exact_counts(parties, evaluation, {name: held[name] for name in names}, tmp_path / "classifier")
            # 20 counts a row and site, standard deviation 0.2 each: six standard deviations of the total are 5.3.
            assert np.abs(np.array(row["xrays"]) - exact.sum(axis=1)).max() <= 6 * len(names)
            assert row["low"] - 0.1 < float(auc(exact[0], exact[1])) < row["high"] + 0.1
            assert row["low"] <= row["auc"] <= row["high"]
        for name, site in parties.sites.items():
            assert site.ledger.queried_units() == {item.patient for item in held[name]}
            assert not site.ledger.queried_units() & site.ledger.released_units()
            write_export(site, tmp_path / f"{name}.jsonl")
            write_openings(site, tmp_path / f"{name}.openings")
            assert verify_export(tmp_path / f"{name}.jsonl").histories[0].campaigns.keys() >= {asked_id(evaluation)}
            check_openings(tmp_path / f"{name}.jsonl", tmp_path / f"{name}.openings")


def arrive(parties: network.Network, evaluation: Evaluation) -> None:
    """Wait until the evaluation lies at every site."""
    for _ in network.wait_for(parties, evaluation.name, SECONDS):
        pass


def exact_counts(
    parties: network.Network, evaluation: Evaluation, held: dict[str, list[object]], bundle: Path
) -> np.ndarray:
    """What the sites counted before they noised it: one X-ray of each patient, the first of the set's order."""
    edges = [float(edge) for edge in evaluation.edges]
    counts = np.zeros((2, evaluation.histogram.bins), dtype=np.int64)
    classifier = load(bundle)
    for name, items in held.items():
        found, seen = data_set(parties.sites[name], evaluation), set()
        for item in items:
            if item.patient in seen:  # type: ignore[attr-defined]
                continue
            seen.add(item.patient)  # type: ignore[attr-defined]
            xray = found.read(item)  # type: ignore[arg-type]
            image = parties.encoder.prepare(xray.pixels, inverted=False, window=None, bits=8)
            scores = classifier.scores(parties.encoder, torch.stack([image]))[0]
            counts[item.label, np.searchsorted(edges, scores[1] - scores[0], side="right")] += 1  # type: ignore[attr-defined]
    assert evaluation.label_names == LABELS
    return counts
