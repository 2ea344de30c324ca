"""What a figure was measured with: the code that can change it, and the machine."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, resources
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

_MAKING_SCORES = {
    "ldp_client": ("privacy", "flow", "diagnosis", "imaging", "wire"),
    "server": ("datasets.py", "learning", "benchmarks"),
}
_ENCODING = {
    "ldp_client": ("flow", "imaging"),
    "server": ("datasets.py", "learning/public_subset.py", "benchmarks/tasks.py", "benchmarks/encoded.py"),
}
_NOT = {
    f"benchmarks/{name}.py"
    for name in (
        "area", "attack_figure", "attack_report", "attacks", "figure", "findings", "likelihood", "provenance", "utility"
    )
}  # fmt: skip
"""Files that only read scores: they may change without a row being measured again."""


def code_digest() -> str:
    """SHA-256 over the files that can change a score, the chosen configurations, and the versions of libraries."""
    return _digest(_MAKING_SCORES, ("numpy", "scikit-learn", "torch"))


def encoding_digest() -> str:
    """SHA-256 over the files that can change what an X-ray is encoded to, or which part it belongs to."""
    return _digest(_ENCODING, ("numpy", "torch"))


def _digest(places: dict[str, tuple[str, ...]], libraries: tuple[str, ...]) -> str:
    whole = hashlib.sha256(" ".join(metadata.version(name) for name in libraries).encode())
    for package, parts in places.items():
        root = Path(str(resources.files(package)))
        for part in parts:
            place = root / part
            for file in [place] if place.is_file() else sorted([*place.rglob("*.py"), *place.rglob("*.toml")]):
                name = file.relative_to(root).as_posix()
                if name not in _NOT:
                    whole.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and for BLAS: matrices are small here, and processes work beside each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


def processor() -> str:
    """The processor's name, as the system has it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
