"""A training that is killed goes on where it stood; several workers find what one finds. With real processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from typer.testing import CliRunner

from ldp_client.errors import ConfigurationError
from ldp_client.flow.encoder import CARD_FILE, WEIGHTS_FILE
from ldp_client.flow.glow import Shape
from server.cli.encoder import app
from server.learning.batches import prepared
from server.learning.checkpoint import CHECKPOINT_FILE
from server.learning.likelihood import maximise_likelihood
from server.learning.pictures import CURVE_FILE, SAMPLES_FILE
from server.learning.pretrain import workshop
from server.learning.recipe import Progress, Recipe
from server.learning.workers import Workers, joined

RECIPE = Recipe(
    Shape(size=8, levels=2, steps=1, width=8),
    content=6,
    training_steps=30,
    batch=16,
    warmup_steps=5,
    validate_every=10,
    threads=1,
)
OPTIONS = shlex.split(
    "--size 8 --content 6 --levels 2 --steps 1 --width 8 --batch 16 --held-out 16 --threads 1 --name small"
)
PROGRAM = str(Path(sys.executable).parent / "ldp-server")


def images(count: int = 80) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:6, :6]
    centres = np.random.default_rng(0).uniform(1, 5, (count, 2, 1, 1))
    spots = 230 * np.exp(-((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) / 6)
    return (spots + np.random.default_rng(1).integers(0, 8, (count, 6, 6))).astype(np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "blobs.npz", images=images())
    return tmp_path / "blobs.npz"


def train(data: Path, out: Path, *more: str) -> list[str]:
    return [PROGRAM, "encoder", "train", "--data", str(data), "--out", str(out), *OPTIONS, *more]


def train_here(data: Path, out: Path, *more: str) -> None:
    """The same without a process of its own."""
    assert CliRunner().invoke(app, train(data, out, *more)[2:]).exit_code == 0


def test_a_killed_training_ends_with_the_bytes_of_one_that_was_not(tmp_path: Path, data: Path) -> None:
    steps = ("--training-steps", "400")
    train_here(data, tmp_path / "whole" / "e", *steps)
    out = tmp_path / "killed" / "e"
    checkpoint = workshop(out) / CHECKPOINT_FILE
    process = subprocess.Popen(train(data, out, *steps), stderr=subprocess.PIPE, text=True)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    with safe_open(checkpoint, framework="pt") as file:
        assert 0 < json.loads(file.metadata()["state"])["step"] < 400

    train_here(data, out, *steps)
    for name in (CARD_FILE, WEIGHTS_FILE):
        assert (out / name).read_bytes() == (tmp_path / "whole" / "e" / name).read_bytes()
    assert {CURVE_FILE, SAMPLES_FILE} <= {path.name for path in workshop(out).iterdir()}


def test_two_workers_learn_what_one_learns(tmp_path: Path, data: Path) -> None:
    """Over gloo, with torchrun. Only the order in which gradients are added differs."""
    steps = ("--training-steps", "40", "--device", "cpu")
    train_here(data, tmp_path / "one", *steps)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = subprocess.run(
        [*torchrun, *train(data, tmp_path / "two", *steps, "--format", "json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert two.stdout.count('"digest"') == 1  # the first worker alone reports
    with (
        safe_open(tmp_path / "one" / WEIGHTS_FILE, framework="pt") as one,
        safe_open(tmp_path / "two" / WEIGHTS_FILE, framework="pt") as other,
    ):
        names = [name for name in one.keys() if name.startswith("flow.")]  # noqa: SIM118  # not a dict
        assert names
        for name in names:
            torch.testing.assert_close(one.get_tensor(name), other.get_tensor(name), rtol=1e-3, atol=1e-3)
    # Adam takes a sum of gradients for their mean; the losses, which go the same way, tell them apart.
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


def losses(out: Path) -> list[float]:
    with safe_open(workshop(out) / CHECKPOINT_FILE, framework="pt") as file:
        return [loss for _, loss in json.loads(file.metadata()["state"])["losses"]]


def ignore(_: Progress) -> None:
    """Nobody watches."""


def run(folder: Path, recipe: Recipe = RECIPE, workers: Workers | None = None) -> int:
    train, held_out = prepared(images()[16:], recipe), prepared(images()[:16], recipe)
    return maximise_likelihood(train, held_out, recipe, folder, ignore, workers).step


def test_a_step_is_warmed_up_clipped_and_averaged(tmp_path: Path) -> None:
    """After Adam's first step from top.mean = 0: its size is the rate, its first moment a tenth of the gradient."""
    recipe = replace(RECIPE, training_steps=1, warmup_steps=4, gradient_norm=0.5, learning_rate=1e-2)
    state = maximise_likelihood(prepared(images(), recipe), prepared(images()[:16], recipe), recipe, tmp_path, ignore)
    moved = state.flow.top.mean.detach()
    assert moved.abs().max().item() == pytest.approx(1e-2 / 4, rel=1e-3)
    moments = torch.cat([state.optimiser.state[p]["exp_avg"].flatten() for p in state.flow.parameters()])
    assert moments.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-3)
    torch.testing.assert_close(state.average.top.mean.detach(), 0.9 * moved)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ConfigurationError, match=r"of a training with other images or another recipe; repeat the com"):
        run(tmp_path, replace(RECIPE, seed=1))


@pytest.mark.parametrize("content", [b"", b"\x00" * 40])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"is no checkpoint of a training; remove '.*' to begin afresh"):
        run(tmp_path)


def test_training_stops_after_validations_that_find_nothing_better(tmp_path: Path) -> None:
    still = replace(RECIPE, training_steps=400, learning_rate=1e-12, patience=2)  # too small a rate for float32
    assert run(tmp_path, still) == 30


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"diverged at step \d+: a gradient is not finite; lower the learning"):
        run(tmp_path, replace(RECIPE, training_steps=400, learning_rate=1.0, warmup_steps=1))


def test_a_batch_that_workers_cannot_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"divide batches of 16 among 3 workers; give a multiple"):
        run(tmp_path, workers=Workers(count=3))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match=r"asked to train on a GPU, torch finds none"), joined("cuda"):
        pass
