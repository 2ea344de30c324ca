"""The AUC without noise on public X-rays: measured on those not seen, and refused where labels are no labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ldp_client.errors import ConfigurationError
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.imaging.phantoms import phantoms
from server.cli.campaign import app
from server.learning.public_signal import held_out_auc, measure


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, labels = phantoms(80, 28, seed=1, pneumonia_share=0.5)
    path = tmp_path_factory.mktemp("public") / "public.npz"
    np.savez(path, images=images, labels=labels)
    return path


def test_classes_apart_are_told_apart_and_chance_is_one_half() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 600)
    points = generator.normal(size=(600, 4))
    assert abs(held_out_auc(points, labels) - 0.5) < 0.06
    assert held_out_auc(points + 5 * np.eye(4)[labels], labels) > 0.99


def test_points_that_only_memory_tells_apart_are_not_told_apart() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 30)
    assert held_out_auc(generator.normal(size=(60, 40)), labels) < 0.75  # on the X-rays it was fitted on: 1


def test_public_xrays_with_labels_give_auc_shares_and_the_first_coordinates(public: Path) -> None:
    found = measure(Encoder.load(shipped()), public, 3)
    assert found.outputs.shape == (80, 3)
    assert found.auc is not None
    assert 0.3 < found.auc <= 1
    assert found.prevalence is not None
    assert sum(found.prevalence) == pytest.approx(1)
    assert found.sentence().startswith("80 public X-rays, labels as frequent as 0.")


def test_without_labels_only_what_clips_leave_is_measured(public: Path, tmp_path: Path) -> None:
    with np.load(public) as arrays:
        np.savez(tmp_path / "bare.npz", images=arrays["images"])
    found = measure(Encoder.load(shipped()), tmp_path / "bare.npz", 2)
    assert (found.auc, found.prevalence) == (None, None)
    assert found.sentence() == "80 public X-rays without labels: what clips leave is measured on them"


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.zeros(80, int), "at least 20 public X-rays, of at least 2 labels; found 80"),
        (np.repeat([0, 1], [75, 5]), "found 75, 5"),
        (np.zeros(79, int), "one whole number from 0 on for each of 80 X-rays; found 79 int64"),
        (np.full(80, 0.5), "found 80 float64"),
    ],
)
def test_labels_that_are_none_are_refused(public: Path, tmp_path: Path, labels: np.ndarray, text: str) -> None:
    with np.load(public) as arrays:
        np.savez(tmp_path / "odd.npz", images=arrays["images"], labels=labels)
    with pytest.raises(ConfigurationError, match=text):
        measure(Encoder.load(shipped()), tmp_path / "odd.npz", 2)


def test_advice_speaks_of_the_public_xrays(public: Path) -> None:
    words = ["advise", "--epsilon", "2", "--records", "500", "--encoder", "shipped:kermany28", "--public", str(public)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.exception
    assert "80 public X-rays, labels as frequent as" in result.output
