"""A classifier's bundle comes from the centre, inside an evaluation: whatever its bytes are, it loads or is refused in
words, and never for long. Mutations of an honest one; the seed is fixed, and a failure prints the mutation's number.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import time
from functools import lru_cache
from typing import Any

import pytest
import torch
from bundles import a_card
from safetensors.torch import save

from ldp_client.diagnosis.bundle import read_bundle
from ldp_client.diagnosis.convolutional import ConvolutionalModel, PictureNet, stored
from ldp_client.errors import ClassifierError
from ldp_client.wire.canonical import canonical_bytes

MUTATIONS = 600
SHAPES: tuple[Any, ...] = ([], [0], [2**31], [-1], [2**62, 4], [1] * 70, [0, 2**60], [1.5], "x", None)
TYPES: tuple[Any, ...] = ("F16", "F64", "I64", "BOOL", "BF16", "F8_E4M3", "F4", "C64", "U64", "none", None)
PLACES: tuple[Any, ...] = ([0, 0], [5, 1], [0, 2**63], [-1, 4], [0, 2**64], [], None)
VALUES: tuple[Any, ...] = (0, -1, 1, 1024, 10**9, 2**63, "", "x", "9" * 12 + "." + "9" * 12, None, [], {}, ["a", "b"])


@lru_cache
def weights() -> bytes:
    return save({f"0.{name}": tensor.contiguous() for name, tensor in stored(PictureNet(28, 2, 4)).items()})


def card(found: bytes) -> bytes:
    model = ConvolutionalModel(classes=2, side=28, width=4, networks=1, scores_spread="1.5")
    return canonical_bytes(a_card(model=model, noise_error=None, weights_sha256=hashlib.sha256(found).hexdigest()))


def tried(document: bytes, found: bytes, number: object) -> bool:
    """Whether it loads."""
    start, text = time.monotonic(), ""
    try:
        read_bundle(document, found)
    except ClassifierError as refusal:
        text = str(refusal)
    assert len(text) < 500, number
    assert time.monotonic() - start < 2, number
    return not text


def with_header(found: bytes, change: Any) -> bytes:
    (size,) = struct.unpack("<Q", found[:8])
    header = json.loads(found[8 : 8 + size])
    change(header)
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + found[8 + size :]


def test_the_honest_bundle_loads() -> None:
    assert tried(card(weights()), weights(), "honest")


def test_mutated_weights_load_or_are_refused() -> None:
    honest, dice, loaded = weights(), random.Random(1), 0  # noqa: S311
    (size,) = struct.unpack("<Q", honest[:8])

    def change(header: dict[str, Any]) -> None:
        name = dice.choice(sorted(header))
        field, values = dice.choice([("shape", SHAPES), ("dtype", TYPES), ("data_offsets", PLACES)])
        header[name][field] = dice.choice(values)
        if dice.random() < 0.2:
            header[dice.choice(["", "x" * 1000, "__metadata__", "0.more"])] = header.pop(name)

    for number in range(MUTATIONS):
        if number % 2:
            hostile = with_header(honest, change)
        else:
            body = bytearray(honest)
            for _ in range(dice.randint(1, 3)):
                body[dice.randrange(size + 200)] = dice.randrange(256)
            hostile = bytes(body[: dice.choice([len(body), dice.randrange(len(body))])])
        loaded += tried(card(hostile), hostile, number)
    # A changed number is a number; most changes are faults.
    assert 0 < loaded < MUTATIONS // 2


@pytest.mark.parametrize(
    "arrays",
    [
        {"shape": [1] * 65, "dtype": "F32"},
        {"shape": [4], "dtype": "F8_E4M3"},
    ],
    ids=["more dimensions than torch has", "a type that has no infinity"],
)
def test_arrays_that_torch_cannot_hold_or_look_at_are_refused(arrays: dict[str, Any]) -> None:
    header = json.dumps({"0.a": {**arrays, "data_offsets": [0, 4]}}).encode()
    hostile = struct.pack("<Q", len(header)) + header + bytes(4)
    with pytest.raises(ClassifierError, match="not a safetensors file of ordinary numbers; only that format is read"):
        read_bundle(card(hostile), hostile)


def test_a_number_that_is_none_is_refused() -> None:
    hostile = save({"0.a": torch.tensor([float("nan")])})
    with pytest.raises(ClassifierError, match="hold values that are not finite"):
        read_bundle(card(hostile), hostile)


def test_mutated_cards_load_or_are_refused() -> None:
    found = weights()
    honest, dice = json.loads(card(found)), random.Random(2)  # noqa: S311
    for number in range(MUTATIONS):
        changed = json.loads(json.dumps(honest))
        holder = dice.choice([changed, changed["model"], changed["learnt_from"][0]])
        holder[dice.choice([*sorted(holder), "more"])] = dice.choice(VALUES)
        tried(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode(), found, number)
