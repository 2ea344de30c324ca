"""Every kind of release from a site's files to an export that verifies, and what the officer reads about it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from ldp_client.cli.main import main
from ldp_client.export import write_export
from ldp_client.privacy.clipping import Clipped
from ldp_client.privacy.codebook import Codebook, NoisedIndices
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import MechanismKind, ReleaseSpec
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import Seal, parse_entry
from ldp_client.wire.envelope import BATCH, OneKey, open_envelope
from ldp_client.wire.exchange import Batch
from ldp_client.wire.record import check_contents, codebook_seed, pack
from ldp_client.wire.signing import unseal
from tests.client.world import OFFICER, SEALING, MakeWorld, Stream, World, make_campaign

RELEASES: dict[str, ReleaseSpec] = {
    "codebook": joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, codewords=64),
    "codebook constant": joint_codebook(
        epsilon=2, classes=2, bottleneck_dimension=2, codewords=64, label_code="one_hot", constant="1/2"
    ),
    "one_hot": joint_laplace(
        epsilon=2, classes=2, bottleneck_dimension=2, radius=1, label_code="one_hot", constant="1/4"
    ),
    "latent": latent(epsilon=2, label_epsilon=1, classes=2, bottleneck_dimension=2, radius=1),
    "dp_glow": dp_glow(epsilon=2, label_epsilon=1, classes=2, latents=784),
}
SAID = {
    "codebook": "one of 64 public codewords per X-ray, which stands for the X-ray and its label (normal, pneumonia)",
    "codebook constant": "one of 64 public codewords per X-ray",
    "one_hot": "6 noised integers per X-ray, which stand for the X-ray and its label (normal, pneumonia) together",
    "latent": "2 noised integers of the bottleneck per X-ray, at epsilon 1, and its label (normal, pneumonia)",
    "dp_glow": "784 noised integers for all of the flow's latents per X-ray, at epsilon 1, and its label",
}
ALLOWED: tuple[MechanismKind, ...] = ("joint_discrete_laplace", "joint_codebook", "latent", "dp_glow")
each = pytest.mark.parametrize("name", RELEASES)


def campaign(name: str) -> Campaign:
    release = RELEASES[name]
    return make_campaign(release=release, micro_epsilon_per_record=release.loss.micro_epsilon)


def records_of(world: World) -> dict[int, bytes]:
    """What the centre pulled: each record by the number of its charge."""
    site = OneKey("the site", world.site.signer.public_key)
    charges = {
        row.sequence: entry.charge
        for row in world.site.ledger.rows()
        if row.kind == "seal" and isinstance(entry := parse_entry(row.body), Seal)
    }
    batches = [parse(Batch, open_envelope(unseal(sealed, SEALING), BATCH, site)[1]) for sealed in world.pulled.values()]
    return {charges[payload.seal]: payload.record for batch in batches for payload in batch.payloads}


def finished(world: World) -> World:
    agent = world.release()
    for _ in range(3):
        world.round()
        agent.step()
    return world


@each
def test_a_site_releases_and_its_export_verifies(new_world: MakeWorld, name: str) -> None:
    world = finished(new_world(campaign(name), count=5, mechanisms=ALLOWED))
    records = records_of(world)
    assert len(records) == 5
    for charge, record in records.items():
        seed = codebook_seed(world.name, "north", charge)
        check_contents(record, RELEASES[name], seed)
        if RELEASES[name].kind == "joint_codebook":
            assert record.endswith(seed)
    assert len({len(record) for record in records.values()}) == 1
    write_export(world.site, world.folder / "export.jsonl")
    (history,) = verify_export(world.folder / "export.jsonl").histories
    assert (history.sealed, history.bound) == (5, RELEASES[name].loss)


@each
def test_a_campaign_that_states_another_loss_cannot_be_written(name: str) -> None:
    wrong = RELEASES[name].loss.micro_epsilon - 1
    with pytest.raises(ValueError, match="the release costs epsilon"):
        make_campaign(release=RELEASES[name], micro_epsilon_per_record=wrong)


@each
def test_the_officer_reads_what_leaves(
    new_world: MakeWorld, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = new_world(campaign(name), count=3, mechanisms=ALLOWED)
    world.offer()
    (world.folder / "officer.key").write_bytes(OFFICER.secret)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(sys, "argv", ["ldp-client", "campaign", "show", "pneumonia", "--state", str(world.folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code
    assert f"leaves the site: {SAID[name]}" in shown
    assert f"At epsilon {RELEASES[name].loss} per record, one yes/no fact is guessed right at best" in shown


def drawn_around(real: Any, other: np.ndarray) -> Any:
    """The real codebook mechanism, shown `other` whatever was clipped."""

    class Constant:
        def __init__(self, spec: Any) -> None:
            self._real = real(spec)

        def __call__(self, value: Clipped, seeds: Any, source: Any) -> NoisedIndices:
            return self._real(Clipped(np.repeat(other[None], len(value.steps), axis=0), value.clip), seeds, source)

    return Constant


def test_codebook_records_depend_on_the_xray_through_the_mechanism_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown one direction whatever was clipped, it says the same bytes for all X-rays; the real one does not."""
    release = RELEASES["codebook"]
    assert release.kind == "joint_codebook"
    generator = np.random.default_rng(0)
    inputs = [prepare(release, generator.normal(size=(40, 2)), np.full(40, label)) for label in (0, 1)]
    seeds = [codebook_seed("c" * 64, "north", charge) for charge in range(40)]

    def said() -> list[list[bytes]]:
        return [pack(draw(release, value, seeds, Stream("draws"))) for value in inputs]

    real = said()
    assert real[0] != real[1]
    still = drawn_around(Codebook, np.array([release.codebook.clip.radius_steps, 0]))
    monkeypatch.setattr("ldp_client.privacy.drawing.Codebook", still)
    one, other = said()
    assert one == other


def test_the_mechanism_asks_for_as_many_bytes_whatever_the_xray_is() -> None:
    """But for the rare words that are drawn again, which depend on no X-ray."""
    release = RELEASES["codebook"]
    assert release.kind == "joint_codebook"
    asked: list[list[int]] = []
    for steps in ([1, 0], [-9000, 300]):
        sizes: list[int] = []

        def zeros(count: int, sizes: list[int] = sizes) -> bytes:
            sizes.append(count)
            return bytes(count)

        value = Clipped(np.array([steps] * 7), release.codebook.clip)
        Codebook(release.codebook)(value, [bytes(32)] * 7, zeros)
        asked.append(sizes)
    assert asked[0] == asked[1] == [56, 28, 28]  # 7 coins of 64 bits, and a rank of 32 bits for either side of them
