"""Whatever arrives: a document, or an LdpError of bounded length. Nothing else, and never for long."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from site_story import beginning, campaign, policy

from ldp_client.errors import FormatError, LdpError
from ldp_client.wire import campaign as campaigns
from ldp_client.wire import chain, exchange, rotation
from ldp_client.wire.canonical import Wire, canonical_bytes, parse
from ldp_client.wire.chain import entry_body, parse_entry
from ldp_client.wire.envelope import CAMPAIGN, OneKey, close_envelope, open_envelope
from ldp_client.wire.evaluation import Evaluation
from ldp_client.wire.signing import SigningKey

KINDS = sorted(
    {
        value
        for module in (campaigns, exchange, chain, rotation)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Wire) and value is not Wire and value.__name__[0] != "_"
    }
    | {Evaluation},
    key=lambda kind: kind.__name__,
)
CENTRE = SigningKey(b"c" * 32)
GOOD = [
    (kind, path["bytes"])
    for kind in KINDS
    for file in sorted((Path(__file__).parent.parent / "vectors").glob("*.json"))
    if (path := json.loads(file.read_text())).get("kind") == kind.__name__ and not file.stem.startswith("bad_")
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1/1", "1e999999999", "0/0", "-1/1", "a" * 64, "0" * 64, "2026-01-01", "9999-99-99", "site-a"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def read(kind: type[Wire], body: bytes) -> None:
    """A document, whose bytes are those that came in, or a FormatError without a long text."""
    start = time.monotonic()
    try:
        document = parse(kind, body)
    except FormatError as refusal:
        length = len(str(refusal))
    else:
        length = 0
        assert canonical_bytes(document) == body
    assert length < 400
    assert time.monotonic() - start < 2


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def put(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return copy


def test_every_kind_of_document_is_fuzzed() -> None:
    assert len(KINDS) >= 20
    assert {kind.__name__ for kind, _ in GOOD} >= {"Campaign", "Policy", "Batch", "Receipt", "SiteState", "Enrolment"}


@given(st.sampled_from(KINDS), st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
@settings(max_examples=200)
def test_random_bytes_are_refused_in_words(kind: type[Wire], body: bytes) -> None:
    read(kind, body)


@given(st.sampled_from(KINDS), anything)
@settings(max_examples=200)
def test_random_json_is_refused_in_words(kind: type[Wire], value: Any) -> None:
    read(kind, json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace"))


@given(st.sampled_from(GOOD), st.data(), anything)
@settings(max_examples=400)
def test_a_document_with_one_value_replaced_by_anything_is_read_or_refused(
    good: tuple[type[Wire], str], data: st.DataObject, value: Any
) -> None:
    kind, text = good
    document = json.loads(text)
    changed = put(document, data.draw(st.sampled_from(places(document))), value)
    read(kind, json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace"))


@given(st.sampled_from(GOOD), st.data())
@settings(max_examples=300)
def test_a_document_with_one_flipped_bit_is_read_or_refused(good: tuple[type[Wire], str], data: st.DataObject) -> None:
    kind, text = good
    body = bytearray(text.encode())
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    read(kind, bytes(body))


@given(st.data(), anything)
@settings(max_examples=300)
def test_an_entry_with_one_value_replaced_by_anything_is_read_or_refused(data: st.DataObject, value: Any) -> None:
    entry = json.loads(entry_body(data.draw(st.sampled_from(beginning()))))
    changed = put(entry, data.draw(st.sampled_from(places(entry))), value)
    body = json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    try:
        parsed = parse_entry(body)
    except FormatError as refusal:
        length = len(str(refusal))
    else:
        length = 0
        assert entry_body(parsed) == body
    assert length < 400


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("body", [b"[" * 10**5, b'{"a":' * 10**5, b"1" * 10**6, b'"' + b"x" * 10**6, b"\xff" * 100])
def test_deep_long_and_broken_bytes_are_refused_quickly(kind: type[Wire], body: bytes) -> None:
    with pytest.raises(FormatError):
        parse(kind, body)
    read(kind, body)


def lists_of(kind: type[Wire]) -> list[str]:
    return [name for name, field in kind.model_fields.items() if "tuple" in str(field.annotation)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_countless_parts_are_refused_before_they_are_read(kind: type[Wire]) -> None:
    """Each wrong part costs the parser 400 bytes and ten microseconds: a megabyte of them took it 12 s."""
    many = 500_000
    bodies = [b'{"%s":[%s1]}' % (name.encode(), b"1," * many) for name in lists_of(kind)]
    bodies.append(b"{" + b",".join(b'"%x":1' % number for number in range(80_000)) + b"}")
    for body in bodies:
        with pytest.raises(FormatError, match=f"a {kind.__name__} has at most {kind.most_commas} commas; found"):
            parse(kind, body)


def test_as_many_wrong_parts_as_pass_are_counted_and_not_listed() -> None:
    body = b'{"entries":[' + b"1," * (exchange.Batch.most_commas - 1) + b"1]}"
    with pytest.raises(FormatError, match=r"no Batch that this version can read \(65541 faults\)"):
        parse(exchange.Batch, body)
    read(exchange.Batch, body)


@given(st.binary(max_size=150), st.integers(0, 200))
def test_an_envelope_of_anything_opens_to_its_bytes_or_is_refused(junk: bytes, cut: int) -> None:
    ring = OneKey("the centre", CENTRE.public_key)
    envelope = close_envelope(CAMPAIGN, junk, CENTRE)
    assert open_envelope(envelope, CAMPAIGN, ring) == ("the centre", junk)
    for other in (envelope[:cut] + junk, junk + envelope, envelope[cut:]):
        if other != envelope:
            with pytest.raises(LdpError):
                open_envelope(other, CAMPAIGN, ring)


def test_a_campaign_in_a_policys_place_is_refused() -> None:
    with pytest.raises(FormatError, match="these bytes are no Policy"):
        parse(campaigns.Policy, canonical_bytes(campaign()))
    with pytest.raises(FormatError, match="these bytes are no Campaign"):
        parse(campaigns.Campaign, canonical_bytes(policy()))
