"""Maximum likelihood: the loop that turns a new flow into a trained one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ldp_client.errors import ConfigurationError
from ldp_client.flow.glow import Glow
from ldp_client.flow.training import log_prob
from server.learning.batches import Noisy, batch, generator, initial, validation
from server.learning.checkpoint import State, fingerprint, restore, save_checkpoint
from server.learning.recipe import Progress, Recipe
from server.learning.workers import Workers

CHECKPOINT_SECONDS = 60.0
"""A kill costs at most this much work."""


def maximise_likelihood(
    train: Tensor,
    held_out: Tensor,
    recipe: Recipe,
    folder: Path,
    progress: Callable[[Progress], None],
    workers: Workers | None = None,
) -> State:
    """Train a flow on prepared images (N, 1, size, size); take up the checkpoint in `folder` where there is one.

    Adam with warm-up and cosine decay, gradient clipping, and a moving average of the weights. `State.best` is the
    average that had the fewest bits per dimension on `held_out`; training ends early after `patience` validations that
    found none better.

    Raises:
        ConfigurationError: the training diverged, the batch cannot be divided among the workers, or the checkpoint
            is of another training.
    """
    workers = workers or Workers()
    if recipe.batch % workers.count:
        raise ConfigurationError(
            f"asked to divide batches of {recipe.batch} among {workers.count} workers; give a multiple of their number"
        )
    with repeatable(recipe.threads, workers):
        state = _begin(train, recipe, workers)
        mark = fingerprint(recipe, train, held_out)
        restore(state, mark, folder)
        judged = validation(held_out, recipe).to(workers.device)
        saved = time.monotonic()
        while state.step < recipe.training_steps and state.unimproved < recipe.patience:
            loss = _step(state, batch(train, recipe, state.step).share(workers.rank, workers.count), recipe, workers)
            due = state.step % recipe.validate_every == 0 or state.step == recipe.training_steps
            bits = _validate(state, judged, recipe, workers) if due else None
            if workers.first:
                if due or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    save_checkpoint(state, mark, folder)
                    saved = time.monotonic()
                progress(Progress(state.step, recipe.training_steps, loss, bits, recipe.batch))
    return state


def _begin(train: Tensor, recipe: Recipe, workers: Workers) -> State:
    flow, average = Glow(recipe.shape), Glow(recipe.shape)
    flow.randomise(generator(recipe.seed, "weights"))
    flow.initialize(initial(train, recipe))
    average.load_state_dict(flow.state_dict())
    flow.to(workers.device)
    average.to(workers.device)
    optimiser = torch.optim.Adam(flow.parameters(), lr=recipe.learning_rate)
    return State(flow, average, optimiser, {name: t.clone() for name, t in average.state_dict().items()})


def _step(state: State, noisy: Noisy, recipe: Recipe, workers: Workers) -> float:
    """One step of Adam; returns the batch's bits per dimension before it."""
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.learning_rate * _schedule(state.step, recipe)
    noisy = noisy.to(workers.device)
    loss = _bits_per_dim(state.flow, noisy, recipe).mean()
    state.optimiser.zero_grad()
    torch.autograd.backward(loss)
    parameters: list[Tensor] = list(state.flow.parameters())
    measured = loss.detach()[None]
    workers.average([*(p.grad for p in parameters if p.grad is not None), measured])
    norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.gradient_norm)
    if not bool(torch.isfinite(norm)):
        raise ConfigurationError(
            f"the training diverged at step {state.step + 1}: a gradient is not finite; "
            f"lower the learning rate of {recipe.learning_rate}"
        )
    state.optimiser.step()
    # A short memory at first: the average of few steps should not be the random start.
    decay = min(recipe.ema_decay, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.average.parameters()), parameters, 1 - decay)
    state.step += 1
    state.losses.append((state.step, float(measured)))
    return float(measured)


def _validate(state: State, judged: Noisy, recipe: Recipe, workers: Workers) -> float:
    """Bits per dimension of the moving average on the held-out images; keep it when it is the best so far."""
    bits = 0.0
    if workers.first:
        with torch.no_grad():
            parts = zip(torch.split(judged.images, recipe.batch), torch.split(judged.log_q, recipe.batch), strict=True)
            bits = float(torch.cat([_bits_per_dim(state.average, Noisy(*part), recipe) for part in parts]).mean())
    bits = workers.agreed(bits)
    state.bits.append((state.step, bits))
    state.unimproved += 1
    if bits < state.best_bits:
        state.best_bits, state.unimproved = bits, 0
        state.best = {name: tensor.clone() for name, tensor in state.average.state_dict().items()}
    return bits


def _bits_per_dim(flow: Glow, noisy: Noisy, recipe: Recipe) -> Tensor:
    network_type = torch.bfloat16 if recipe.precision == "bfloat16" else None
    log_p = log_prob(flow, noisy.images, recipe.mode, network_type)
    return (noisy.log_q - log_p) / (math.log(2) * recipe.content**2)


def _schedule(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / recipe.training_steps)))


@contextmanager
def repeatable(threads: int, workers: Workers) -> Iterator[None]:
    """Fix what torch lets vary between two runs; set it back afterwards. A GPU warns where it has no fixed order."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=workers.device.type == "cuda")
    try:
        with torch.random.fork_rng(devices=[]):  # new layers draw weights, even those that are overwritten
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
