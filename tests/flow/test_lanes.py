"""Lanes return what one thread would, in order; each computes alone; what goes wrong in one is raised."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ldp_client.flow.lanes import divide, side_by_side


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_batch_is_divided_once_for_each_thread_and_comes_back_in_order() -> None:
    batch = torch.arange(5.0)
    assert [part.tolist() for part in divide(batch)] == [[0, 1, 2], [3, 4]]
    assert torch.cat(side_by_side(torch.square, divide(batch))).tolist() == [0, 1, 4, 9, 16]
    assert len(divide(torch.zeros(3, 4), dim=1)) == 2
    assert len(divide(torch.zeros(1))) == 1


def test_each_part_has_a_thread_of_its_own_that_computes_alone_and_without_gradients() -> None:
    together = threading.Barrier(2, timeout=60)  # breaks if one thread took both parts in turn

    def work(part: Tensor) -> tuple[int, int, bool]:
        together.wait()
        return threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()

    with torch.enable_grad():
        (one, *first), (other, *second) = side_by_side(work, divide(torch.zeros(2)))
    assert one != other
    assert first == second == [1, False]
    assert torch.get_num_threads() == 2  # the caller's own number is as it was


def test_one_part_is_worked_off_by_the_caller_with_all_threads() -> None:
    def work(part: Tensor) -> tuple[int, int]:
        return threading.get_ident(), torch.get_num_threads()

    assert side_by_side(work, divide(torch.zeros(1))) == [(threading.get_ident(), 2)]


def test_an_exception_of_a_lane_is_raised_and_the_lanes_work_on() -> None:
    def work(part: Tensor) -> Tensor:
        if part[0] == 1:
            raise ValueError("the second part")
        return part

    with pytest.raises(ValueError, match="the second part"):
        side_by_side(work, divide(torch.arange(2)))
    assert len(side_by_side(torch.square, divide(torch.arange(2)))) == 2


def test_a_forked_child_makes_lanes_of_its_own() -> None:
    side_by_side(torch.square, divide(torch.arange(2.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads at every fork
        child = os.fork()
    if child == 0:  # only leaves with 0 if its lanes answer; a lane of the parent never would
        signal.alarm(60)
        os._exit(int(torch.cat(side_by_side(torch.square, divide(torch.arange(2.0)))).tolist() != [0, 1]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
