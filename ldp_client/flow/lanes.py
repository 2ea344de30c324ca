"""A batch divided over the processor's cores, each part worked off by one core alone.

A step of flow is a dozen short operations. Divided over two cores, each of them ends with the cores waiting for each
other, which costs more than half of what the second core brings. Images do not depend on each other, so here a core
takes its images through all steps, and the cores meet once, at the end. PyTorch lets go of the interpreter's lock while
it computes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Made = TypeVar("Made")


def divide(batch: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """A batch in as many parts, along `dim`, as there are threads to compute with; whole where the device is no CPU."""
    return batch.chunk(torch.get_num_threads(), dim) if batch.device.type == "cpu" else (batch,)


def side_by_side(work: Callable[[Part], Made], parts: Sequence[Part]) -> list[Made]:
    """What `work` makes of each part, in order, without gradients. One part alone gets all threads.

    The first exception that a part raises is raised here.
    """

    @torch.no_grad()  # a thread has a mode of its own
    def alone(part: Part) -> Made:
        return work(part)

    if len(parts) == 1:
        return [alone(parts[0])]
    return list(_lanes(len(parts)).map(alone, parts))


@lru_cache(maxsize=4)
def _lanes(count: int) -> ThreadPoolExecutor:
    """So many threads, each of which computes with one thread."""
    everyone = threading.Barrier(count)  # so that each of the calls below takes a thread of its own

    def settle(_: int) -> None:
        torch.get_num_threads()  # PyTorch sets a new thread's number at its first question, so ask before setting it
        torch.set_num_threads(1)
        everyone.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="lane")
    list(pool.map(settle, range(count)))
    torch.set_num_threads(before)  # for threads that are yet to come; those that exist keep their own number
    return pool


os.register_at_fork(after_in_child=_lanes.cache_clear)  # a child has none of its parent's threads
