"""`python -m examples.calibration`: probabilities of an evaluation miss by less than scores taken for them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import calibration


def test_the_error_is_what_mean_label_and_mean_probability_differ_by_in_each_range() -> None:
    probability = np.array([0.05, 0.05, 0.95, 1.0])  # 1 belongs to the last range
    assert calibration.expected_error(probability, np.array([0, 1, 1, 1])) == pytest.approx((0.9 + 0.05) / 4)
    assert calibration.expected_error(np.full(10, 0.3), np.repeat([0, 1], [7, 3])) == pytest.approx(0)
    assert calibration.expected_error(np.zeros(4), np.ones(4)) == 1


@pytest.mark.real
def test_an_evaluation_makes_probabilities_that_miss_by_less(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_dir / "pneumoniamnist.npz"
    monkeypatch.setattr(sys, "argv", ["calibration", str(data), "--repeats", "2"])
    calibration.main()
    said = capsys.readouterr().out
    lines = re.findall(r"^ *(\S+)  ([\d.]+) \+- [\d.]+  ([\d.]+) \+- [\d.]+  \((\d) of 2 stated\)$", said, re.MULTILINE)
    errors = {name: float(validation) for name, validation, _, _ in lines}
    assert "541 X-rays held out at 3 sites; expected calibration error, 2 repeats" in said
    assert {"before", "4"} <= errors.keys() <= {"before", "1", "2", "4"}
    assert errors["4"] < 0.06 < errors["before"]
