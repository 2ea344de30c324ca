"""How many coordinates to release: noise asks for fewer."""

from __future__ import annotations

import numpy as np
import pytest

from examples.bench import glow_gpu
from examples.choose_coordinates import simulated
from ldp_client.errors import ConfigurationError
from server.learning.pseudo_findings import pseudo_findings


def public() -> np.ndarray:
    """Coordinates (N, 8) whose spread falls, as an encoder's does."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(600, 8)) * np.linspace(1, 0.5, 8)


def test_coordinates_help_without_noise_and_hardly_with_much_of_it() -> None:
    z, generator = public(), np.random.default_rng(2)
    findings = list(pseudo_findings(z, 2, 30, generator))

    def area(epsilon: str, k: int, records: int) -> float:
        return simulated(z, findings, records, epsilon, k, None, generator)

    clean = area("8", 8, 10**6) - area("8", 2, 10**6)
    noisy = area("1/2", 8, 200) - area("1/2", 2, 200)
    assert clean > 0.05
    assert noisy < clean - 0.05


def test_a_constant_costs_some_of_the_direction() -> None:
    z, generator = public(), np.random.default_rng(3)
    findings = list(pseudo_findings(z, 2, 30, generator))
    plain = simulated(z, findings, 400, "1", 4, None, generator)
    assert plain > simulated(z, findings, 400, "1", 4, "7/10", generator)


def test_figures_on_a_gpu_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glow_gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="torch finds none; run the suite glow instead"):
        glow_gpu.rows()
