"""Values that only a mechanism can make, with numbers that nobody can change afterwards.

A mechanism hands `MADE` to what it returns; nothing else in the product imports it (tests/test_architecture.py). So a
record cannot be packed from numbers that no mechanism noised, nor from such as were altered since.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError

MADE = object()
"""What a mechanism proves itself with."""


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A copy over bytes, which NumPy lets nobody write to: not even by raising the writeable flag again."""
    return np.frombuffer(array.tobytes(), dtype=array.dtype).reshape(array.shape)


@dataclass(frozen=True, eq=False)
class Made:
    """What is made with a proof. `what` completes the refusal of anything else.

    Raises:
        ParameterError: the proof is missing; such an object never exists.
    """

    what: ClassVar[str]
    # Not kept: neither an attribute nor `dataclasses.replace` can lend it to other numbers.
    proof: InitVar[object] = field(default=None, kw_only=True)

    def __post_init__(self, proof: object) -> None:
        if proof is not MADE:
            raise ParameterError(self.what)
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, np.ndarray):
                object.__setattr__(self, one.name, frozen(value))
