"""What every layer of the flow is: an invertible map that knows its log-determinant, both ways."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Bijection(Protocol):
    """An invertible map y = f(x) over batches (B, C, H, W), with the log-determinant of its Jacobian.

    Laws, tested for every implementation in float64 against autograd's Jacobian:
    `inverse(forward(x)[0])[0] == x`; the ladj of `forward` is log |det df/dx| and that of `inverse` log |det df^-1/dy|;
    neither call changes any state.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y = f(x) and log |det df/dx|, shape (B,)."""
        ...

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x = f^-1(y) and log |det df^-1/dy|, shape (B,)."""
        ...


def sum_per_image(x: Tensor) -> Tensor:
    """Sum everything but the batch: (B, ...) to (B,)."""
    return x.flatten(1).sum(1)
