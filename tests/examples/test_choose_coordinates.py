"""How many coordinates to release: pseudo-findings are what they say, and noise asks for fewer coordinates."""

from __future__ import annotations

import numpy as np
import pytest

from examples.bench import glow_gpu
from examples.choose_coordinates import pseudo_findings, simulated
from ldp_client.errors import ConfigurationError


def public() -> np.ndarray:
    """Coordinates (N, 8) whose spread falls, as an encoder's does."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(600, 8)) * np.linspace(1, 0.5, 8)


def test_a_pseudo_finding_concerns_a_quarter_to_three_quarters_and_another_direction_each_time() -> None:
    findings = pseudo_findings(public(), np.random.default_rng(1))
    shares = [labels.mean() for labels in findings]
    assert len(findings) == 100
    assert 0.24 < min(shares) < max(shares) < 0.76
    assert np.mean(findings[0] != findings[1]) > 0.1


def test_coordinates_help_without_noise_and_hardly_with_much_of_it() -> None:
    z, generator = public(), np.random.default_rng(2)
    findings = pseudo_findings(z, generator)[:30]

    def area(epsilon: str, k: int, records: int) -> float:
        return simulated(z, findings, records, epsilon, k, None, generator)

    clean = area("8", 8, 10**6) - area("8", 2, 10**6)
    noisy = area("1/2", 8, 200) - area("1/2", 2, 200)
    assert clean > 0.05
    assert noisy < clean - 0.05


def test_a_constant_costs_some_of_the_direction() -> None:
    z, generator = public(), np.random.default_rng(3)
    findings = pseudo_findings(z, generator)[:30]
    plain = simulated(z, findings, 400, "1", 4, None, generator)
    assert plain > simulated(z, findings, 400, "1", 4, "7/10", generator)


def test_figures_on_a_gpu_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glow_gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="torch finds none; run the suite glow instead"):
        glow_gpu.rows()
