"""A walk as TorchScript is the walk that is written: the same bits, encoding and training."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from ldp_client.flow import inference, products, training
from ldp_client.flow.glow import Glow, Shape
from ldp_client.flow.inference import FrozenGlow
from ldp_client.flow.lanes import side_by_side
from ldp_client.flow.steps import _Compiling, ascend, descend, encode, without_lock
from ldp_client.flow.training import Mode, log_prob
from tests.flow.random_flow import random_flow, random_images

SHAPE = Shape(size=16, levels=2, steps=3, width=7)
CPU = torch.device("cpu")
NO_SCRIPT = sys.version_info >= (3, 14)
"""Where torch does not support TorchScript, a walk is the function itself."""


def as_written(walk: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    return walk


def gradients(
    flow: Glow, mode: Mode, dtype: torch.dtype, network_type: torch.dtype | None = None
) -> list[torch.Tensor]:
    flow.zero_grad()
    x = random_images(SHAPE, 5, dtype).requires_grad_()
    torch.autograd.backward(log_prob(flow, x, mode, network_type).sum())
    return [tensor.grad.clone() for tensor in (x, *flow.parameters()) if tensor.grad is not None]


@pytest.fixture(params=[products.BLOCK_VALUES, 259, 7], ids=["one block", "several", "each position"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "BLOCK_VALUES", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latents_and_log_determinants_are_those_of_the_function(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    frozen, x = FrozenGlow(random_flow(SHAPE, dtype)), random_images(SHAPE, 5, dtype)
    scripted = [frozen.encode(x) for _ in range(3)]  # the first runs of a script are not its last form
    monkeypatch.setattr(inference, "without_lock", as_written)
    latents, ladj = frozen.encode(x)
    for found, found_ladj in scripted:
        assert all(torch.equal(a, b) for a, b in zip(found, latents, strict=True))
        assert torch.equal(found_ladj, ladj)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("dtype", "network_type"),
    [(torch.float32, None), (torch.float32, torch.bfloat16), (torch.float64, None)],
    ids=["float32", "bfloat16", "float64"],
)
@pytest.mark.parametrize("mode", [Mode.FAST, Mode.FRUGAL])
def test_gradients_are_those_of_the_function(
    monkeypatch: pytest.MonkeyPatch, mode: Mode, dtype: torch.dtype, network_type: torch.dtype | None
) -> None:
    flow = random_flow(SHAPE, dtype)
    scripted = [gradients(flow, mode, dtype, network_type) for _ in range(3)]
    monkeypatch.setattr(training, "without_lock", as_written)
    written = gradients(flow, mode, dtype, network_type)
    assert len(written) > 10
    for found in scripted:
        assert all(torch.equal(a, b) for a, b in zip(found, written, strict=True))


def test_a_frozen_flow_is_copied_and_pickled() -> None:
    frozen, x = FrozenGlow(random_flow(SHAPE, torch.float32)), random_images(SHAPE, 2, torch.float32)
    expected = frozen.encode(x)[0]
    for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):  # noqa: S301
        assert all(torch.equal(a, b) for a, b in zip(other.encode(x)[0], expected, strict=True))


def test_a_child_that_was_forked_while_its_parent_compiled_compiles_too() -> None:
    with _Compiling.lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads at every fork
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(int(without_lock(ascend, CPU) is None))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_other_devices_get_the_function_itself() -> None:
    for walk in (encode, ascend, descend):
        assert without_lock(walk, torch.device("meta")) is walk


def test_a_walk_is_compiled_once_whoever_asks() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: without_lock(descend, CPU), range(8)))
    assert len({id(one) for one in found}) == 1
    assert (found[0] is descend) == NO_SCRIPT


def test_a_walk_is_no_python() -> None:
    """No line of a walk is run by the interpreter: its room is laid out in Python, and then nothing is traced."""
    lines: list[str] = []

    def traced(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename.endswith(("flow/steps.py", "flow/products.py")):
            lines.append(frame.f_code.co_name)
        return traced

    frozen, x = FrozenGlow(random_flow(SHAPE, torch.float32)), random_images(SHAPE, 2, torch.float32)
    frozen.encode(x)

    def work(part: torch.Tensor) -> None:
        sys.settrace(traced)
        try:
            frozen._encode(part)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=lambda: side_by_side(work, [x]))
    thread.start()
    thread.join()
    assert "new_room" in lines
    assert bool({"forward", "encode", "spread"} & set(lines)) == NO_SCRIPT


def test_a_walk_can_be_debugged() -> None:
    """Where PYTORCH_JIT=0 the functions run themselves, and to the same end."""
    program = """
import sys, torch
from ldp_client.flow.inference import FrozenGlow
from ldp_client.flow.steps import encode, without_lock
from ldp_client.flow.training import Mode
from tests.flow import test_steps as here
torch.set_num_threads(1)
flow = here.random_flow(here.SHAPE, torch.float32)
print(without_lock(encode, here.CPU) is encode)
print(FrozenGlow(flow).encode(here.random_images(here.SHAPE, 3, torch.float32))[1].tolist())
print([float(one.sum()) for one in here.gradients(flow, Mode.FRUGAL, torch.float32)])
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTORCH_JIT": jit},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for jit in ("0", "1")
    ]
    assert said[0][0] == "True"
    assert said[1][0] == str(NO_SCRIPT)
    assert said[0][1:] == said[1][1:]
