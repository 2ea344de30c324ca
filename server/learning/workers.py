"""Where a training runs: on a processor or a GPU, alone or as one of several that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from ldp_client.errors import ConfigurationError

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workers:
    """This process among `count`; each computes its share of a batch, all keep the same weights."""

    rank: int = 0
    count: int = 1
    device: torch.device = _CPU

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, reports and writes."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their mean over all workers, in one message."""
        if self.count == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat.div_(self.count), [t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agreed(self, value: float) -> float:
        """The first worker's value, on all."""
        if self.count == 1:
            return value
        sent = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(sent, src=0)
        return float(sent)


@contextmanager
def joined(device: str = "auto") -> Iterator[Workers]:
    """Join the workers that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), or work alone.

    Args:
        device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises:
        ConfigurationError: a GPU was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("asked to train on a GPU, torch finds none; leave --device out, or install its driver")
    gpu = device != "cpu" and torch.cuda.is_available()
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers(device=place)
        return
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Workers(distributed.get_rank(), count, place)
    finally:
        distributed.destroy_process_group()
