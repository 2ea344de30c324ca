"""The steps of a level as matrices, walked through from one end to the other and back.

A walk is some dozens of short operations a step. Python's interpreter hands out one operation at a time, to one lane
(`flow.lanes`) at a time, and lanes that wait for it lose a third of what the second core brings. So a lane walks as
TorchScript: the same functions, run by torch without the interpreter's lock
(docs/decisions/0055-lanes-walk-without-the-interpreter.md). Annotations are not postponed, since it reads them.
"""

import os
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from ldp_client.flow.products import (
    BackwardRoom,
    Folded,
    Hidden,
    Room,
    backward,
    forward,
    gather,
    hidden_in,
    new_hidden,
)

Walk = TypeVar("Walk", bound=Callable[..., object])


class Step(NamedTuple):
    """One step of flow, y = coupling(matrix x + shift): matrix (C, C), shift (C, 1), and the coupling's network."""

    matrix: Tensor
    shift: Tensor
    network: Folded


class State(NamedTuple):
    """A state (C, H, W, B) and the views of it that a step needs: (C, H W B), and the halves of a coupling."""

    whole: Tensor
    flat: Tensor
    kept: Tensor
    changed: Tensor


def state_of(whole: Tensor) -> State:
    """A contiguous state with its views."""
    halves = whole.chunk(2)
    return State(whole, whole.flatten(1), halves[0], halves[1])


def encode(
    steps: list[Step], x: State, y: State, log_scales: list[Tensor], room: Room, hidden: Hidden, bound: float
) -> Tensor:
    """Walk from x through all steps, in the memory of x and y: the end (C, H, W, B), and log s of each coupling.

    The networks' raw log s are divided by `bound` already: tanh takes raw / b.
    """
    before, after = x, y
    for k in range(len(steps)):
        step, log_s = steps[k], log_scales[k]
        torch.addmm(step.shift, step.matrix, before.flat, out=after.flat)
        forward(step.network, after.kept, room, hidden)
        torch.tanh(room.raw, out=log_s).mul_(bound)
        after.changed.add_(room.shift).mul_(torch.exp(log_s, out=room.raw))
        before, after = after, before
    return before.whole


def ascend(x: Tensor, steps: list[Step], room: Room, stored: bool, bound: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """From x (C, H, W, B) through the steps: y, ladj (B,), and what is kept.

    If stored, x and of each step its output, tanh of its coupling, and both hidden layers; else y alone.
    """
    ladj = torch.zeros_like(x[0, 0, 0])
    kept = [x]
    hidden = new_hidden(steps[0].network, room.places, stored)
    for k in range(len(steps)):
        step = steps[k]
        if stored and k > 0:
            hidden = new_hidden(step.network, room.places, stored)
        y = state_of(torch.empty_like(x))
        # Into its place: TorchScript would make a product and a sum of it, with other last digits.
        torch.addmm(step.shift, step.matrix, x.flatten(1), out=y.flat)
        tanh = _couple(step, y.kept, room, hidden, bound)
        y.changed.add_(room.shift).mul_(torch.mul(tanh, bound).exp_())
        ladj.add_(tanh.sum([0, 1, 2]))
        x = y.whole
        if stored:
            kept.extend([x, tanh, hidden.first, hidden.second])
    return x, ladj.mul_(bound), kept if stored else [x]


def descend(
    steps: list[Step],
    inverses: list[Tensor],
    kept: list[Tensor],
    grad_y: Tensor,
    grad_ladj: Tensor,
    room: Room,
    back: BackwardRoom,
    bound: float,
    grads: list[Tensor],
) -> Tensor:
    """The way back: the gradient for the start (C, H, W, B).

    What `ascend` kept is used. Where there are `inverses`, that is the end alone, and each step's input is computed
    from its output. `grads` is room for the gradients of matrices (K, C, C), shifts (K, C) and the six of `Network`.
    """
    stored = len(inverses) == 0
    y = state_of(kept[0])
    hidden = hidden_in(kept[3], kept[4], room.places) if stored else new_hidden(steps[0].network, room.places, True)
    for k in range(len(steps) - 1, -1, -1):
        step = steps[k]
        if stored:
            x = kept[4 * k - 3] if k > 0 else kept[0]
            y = state_of(kept[4 * k + 1])
            tanh = kept[4 * k + 2]
            hidden = hidden_in(kept[4 * k + 3], kept[4 * k + 4], room.places)
            gather(room.kept, y.kept)
            scale = torch.mul(tanh, bound).exp_()
        else:
            tanh = _couple(step, y.kept, room, hidden, bound)
            scale = torch.mul(tanh, bound).exp_()
            mixed = torch.cat([y.kept, (y.changed / scale).sub_(room.shift)]).flatten(1)
            x = torch.mm(inverses[k], mixed.sub_(step.shift)).view_as(y.whole)
        grad_shift, grad_raw = back.halves
        grad = state_of(grad_y)
        torch.mul(grad.changed, scale, out=grad_shift)  # y2 depends on x2 as it does on the coupling's shift
        torch.mul(grad.changed, y.changed, out=grad_raw)
        grad_raw.add_(grad_ladj).mul_(torch.mul(tanh, tanh).neg_().add_(1))
        grad_kept = backward(step.network, room, back, hidden)
        mixed = torch.cat([grad_kept.add_(grad.kept), grad_shift]).flatten(1)
        found = back.sums
        of_step = [torch.mm(mixed, x.flatten(1).t()), mixed.sum(1), found.first, found.first_bias, found.second]
        of_step.extend([found.second_bias, found.last, found.last_bias])
        for i, one in enumerate(of_step):
            grads[i][k].copy_(one)
        grad_y = torch.mm(step.matrix.t(), mixed).view_as(x)
        if not stored:
            y = state_of(x)
    return grad_y


def _couple(step: Step, kept: Tensor, room: Room, hidden: Hidden, bound: float) -> Tensor:
    """tanh(raw / b) of a coupling, which is its log s over b. Its shift stands in the room."""
    forward(step.network, kept, room, hidden)
    return room.raw.div(bound).tanh_()


def without_lock(walk: Walk, device: torch.device) -> Walk:
    """A walk as lanes take it: as TorchScript. Elsewhere than on a processor, the function itself.

    So it is where PYTORCH_JIT=0, and from Python 3.14 on, where torch does not support TorchScript.
    """
    scripted = device.type == "cpu" and sys.version_info < (3, 14)
    return cast(Walk, _scripted(walk)) if scripted else walk


class _Compiling:
    """One thread compiles at a time: which warnings are shown is the whole process's setting, and it is changed."""

    lock = Lock()

    @classmethod
    def renew(cls) -> None:
        """For a child that was forked while a thread of its parent held the lock."""
        cls.lock = Lock()


os.register_at_fork(after_in_child=_Compiling.renew)


def _scripted(walk: Callable[..., object]) -> Callable[..., object]:
    with _Compiling.lock:
        return _compiled(walk)


@lru_cache(maxsize=8)
def _compiled(walk: Callable[..., object]) -> Callable[..., object]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        return cast(Callable[..., object], torch.jit.script(walk))
