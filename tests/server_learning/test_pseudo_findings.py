"""Pseudo-findings: how frequent their labels are, where they show, and that X-rays which are alike have none."""

from __future__ import annotations

import numpy as np
import pytest

from server.learning.pseudo_findings import pseudo_findings


def public(count: int = 600) -> np.ndarray:
    """Coordinates (N, 4) whose spread falls, as an encoder's does."""
    return np.random.default_rng(0).normal(size=(count, 4)) * np.array([1.0, 0.8, 0.5, 0.25])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_each_label_has_its_share_and_every_finding_is_another(classes: int) -> None:
    findings = list(pseudo_findings(public(), classes, 100, np.random.default_rng(1)))
    shares = np.stack([np.bincount(labels, minlength=classes) / len(labels) for labels in findings])
    assert len(findings) == 100
    assert shares.min() > 0.8 / (2 * classes)
    assert shares[:, 0].std() > 0.05
    assert np.mean(findings[0] != findings[1]) > 0.1


def test_of_two_labels_the_rarer_has_a_quarter_to_a_half() -> None:
    rarer = [
        min(labels.mean(), 1 - labels.mean()) for labels in pseudo_findings(public(), 2, 200, np.random.default_rng(2))
    ]
    assert 0.24 < min(rarer) < 0.28
    assert max(rarer) > 0.46


def test_findings_show_where_chests_differ() -> None:
    """What a finding says of a coordinate, in its own deviations, falls with how much chests differ there."""
    z = public(4000)
    told = []
    for labels in pseudo_findings(z, 2, 400, np.random.default_rng(3)):
        told.append(((z[labels == 1].mean(0) - z[labels == 0].mean(0)) / z.std(0)) ** 2)
    share = np.mean(told, axis=0)
    # A projection on normal directions of z_j sd_j weighs coordinate j by sd_j^4, of all that it is made of.
    assert (np.diff(share) < 0).all()
    assert share[0] / share[2] > 5
    assert share[2] / share[3] > 5


def test_x_rays_that_are_all_alike_have_none() -> None:
    assert list(pseudo_findings(np.ones((50, 4)), 2, 10, np.random.default_rng(4))) == []
