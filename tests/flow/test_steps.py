"""A walk as TorchScript is the walk that is written: the same float32 bits, encoding and training."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from ldp_client.flow import inference, training
from ldp_client.flow.glow import Glow, Shape
from ldp_client.flow.inference import FrozenGlow
from ldp_client.flow.lanes import side_by_side
from ldp_client.flow.steps import ascend, descend, encode, without_lock
from ldp_client.flow.training import Mode, log_prob
from tests.flow.random_flow import random_flow, random_images

SHAPE = Shape(size=16, levels=2, steps=3, width=7)
CPU = torch.device("cpu")


def as_written(walk: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    return walk


def gradients(flow: Glow, mode: Mode, network_type: torch.dtype | None) -> list[torch.Tensor]:
    flow.zero_grad()
    x = random_images(SHAPE, 5, torch.float32).requires_grad_()
    torch.autograd.backward(log_prob(flow, x, mode, network_type).sum())
    return [tensor.grad.clone() for tensor in (x, *flow.parameters()) if tensor.grad is not None]


def test_latents_and_log_determinants_are_those_of_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, x = random_flow(SHAPE, torch.float32), random_images(SHAPE, 5, torch.float32)
    frozen = FrozenGlow(flow)
    scripted = [frozen.encode(x) for _ in range(3)]  # the first runs of a script are not its last form
    monkeypatch.setattr(inference, "without_lock", as_written)
    latents, ladj = FrozenGlow(flow).encode(x)
    for found, found_ladj in scripted:
        assert all(torch.equal(a, b) for a, b in zip(found, latents, strict=True))
        assert torch.equal(found_ladj, ladj)


@pytest.mark.parametrize("network_type", [None, torch.bfloat16])
@pytest.mark.parametrize("mode", [Mode.FAST, Mode.FRUGAL])
def test_gradients_are_those_of_the_function(
    monkeypatch: pytest.MonkeyPatch, mode: Mode, network_type: torch.dtype | None
) -> None:
    flow = random_flow(SHAPE, torch.float32)
    scripted = [gradients(flow, mode, network_type) for _ in range(3)]
    monkeypatch.setattr(training, "without_lock", as_written)
    written = gradients(flow, mode, network_type)
    assert len(written) > 10
    for found in scripted:
        assert all(torch.equal(a, b) for a, b in zip(found, written, strict=True))


def test_other_devices_get_the_function_itself() -> None:
    for walk in (encode, ascend, descend):
        assert without_lock(walk, torch.device("meta")) is walk


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="torch does not support TorchScript there")
def test_a_walk_is_compiled_once_whoever_asks() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: without_lock(descend, CPU), range(8)))
    assert len({id(one) for one in found}) == 1
    assert found[0] is not descend


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="torch does not support TorchScript there")
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
    assert not {"forward", "encode", "spread"} & set(lines)


def test_the_same_where_torch_is_told_to_compile_nothing() -> None:
    """PYTORCH_JIT=0 is how one debugs a walk; it must stay possible."""
    program = (
        "import torch; from ldp_client.flow.steps import encode, without_lock; "
        "print(without_lock(encode, torch.device('cpu')) is encode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTORCH_JIT": "0"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
