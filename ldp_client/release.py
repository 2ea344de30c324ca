"""The first spine: how an X-ray becomes a record, and where privacy is lost and counted.

Privacy is lost at step 6 and nowhere else. It is counted at step 5, durably, before step 6 begins. What step 8 has made
durable is what will be sent, whatever happens later; no X-ray ever has two records in one campaign.

| the power fails | and then |
|---|---|
| before 5 | nothing was lost, nothing was counted; the X-ray is released another day |
| between 5 and 8 | counted, not lost: no byte of the draw survived. The charge is taken up again, never refunded |
| after 8 | the sealed record waits in the ledger and is sent as it is |
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ldp_client.errors import BudgetExceededError, ParameterError, PolicyRefusedError, QuarantinedError
from ldp_client.evaluation_set import releasable
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.pictures import painter_of
from ldp_client.imaging.dataset import DataSet, Item
from ldp_client.ledger.store import ChargeRequest, OpenCharge, SiteLedger
from ldp_client.privacy.drawing import Input, draw
from ldp_client.privacy.drawing import prepare as prepare_integers
from ldp_client.privacy.image_spec import ImageSpec, noised_release
from ldp_client.privacy.images import make_images
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import ByteSource, shuffled
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.record import codebook_seed, pack

Clock = Callable[[], datetime.date]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Released:
    """What a run did. These counts are for the officer: they never leave the site.

    `left_out`: X-rays of units whose budget or cap was full. `waiting`: late arrivals, too few to go together yet.
    """

    sealed: int
    left_out: int
    quarantined: int
    waiting: int


def release(
    campaign: Campaign,
    data_set: DataSet,
    *,
    ledger: SiteLedger,
    encoder: Encoder,
    source: ByteSource,
    today: Clock,
    chunk: int = 100,
    late_batch: int = 1,
    progress: Progress = lambda done, total: None,
) -> Released:
    """Release every X-ray of the work list that the campaign has not drawn for yet.

    The work list is shuffled as a whole; then, for each chunk of it:
    1. read   2. prepare   3. encode   4. clip   5. charge   6. draw   7. pack   8. seal

    Whatever can be refused about a campaign is refused before the first charge: after step 5 nothing but a crash or a
    full disk stands between a charge and its record.

    Raises:
        WaitingError: no standing approval; nothing was charged.
        PolicyRefusedError: the policy does not allow it, or the campaign does not fit the encoder or the data set.
        BudgetExceededError: with the campaigns charged before, the lifetime budget does not hold this one.
    """
    if encoder.digest != campaign.encoder:
        raise PolicyRefusedError(
            f"the campaign names the encoder {campaign.encoder[:12]}; the one installed is {encoder.digest[:12]}. "
            "Install that bundle and name it in agent.toml"
        )
    asked, noised = campaign.release, noised_release(campaign.release)
    # Coordinates stand in order of what they are thought to tell: a campaign takes the first few.
    given, taken = encoder.output_dimension(noised.source), noised.input_dimension
    if taken > given or data_set.label_names != campaign.label_names:
        raise PolicyRefusedError(
            f"the campaign releases {taken} numbers and "
            f"{len(campaign.label_names)} labels; encoder and data set have {given} and "
            f"{len(data_set.label_names)}, or other labels. Ask the centre for a campaign that fits its encoder"
        )
    if isinstance(asked, ImageSpec) and encoder.content != asked.side:
        raise PolicyRefusedError(
            f"the campaign asks for pictures of {asked.side} x {asked.side} pixels; the encoder makes them of "
            f"{encoder.content} x {encoder.content}. Ask the centre for a campaign that fits its encoder"
        )
    policy = ledger.standing_approval(campaign, today().isoformat()).policy
    paid = _resumable(campaign, data_set, ledger)
    # Whoever is held out for evaluations is never released: a classifier is not judged on what taught it.
    held_in = releasable(data_set, policy, ledger)
    work = _work_list(campaign, held_in, ledger, paid, policy.lifetime_budget, source, late_batch)
    # Public pictures, where the record is one: drawn before any X-ray is read, so nothing in them can be private.
    painter = painter_of(asked, encoder, source) if isinstance(asked, ImageSpec) and work.items else None
    queue = iter(work.items)
    sealed = refused = 0

    # (1) One file after the other comes into memory; what cannot be read is set aside and costs nothing.
    # (2) Each is prepared at once, by the code that prepared the public images, and only the small tensor is kept.
    while films := _read_and_prepare(data_set, encoder, queue, chunk):
        # (3) The frozen public GLOW and what the campaign reads of it: floats, and the last that are not integers.
        images = torch.stack([film.image for film in films])
        outputs = encoder.output(noised.source, images)[:, :taken]  # (N, k)
        # (4) X-ray and label on the integer grid, where the clip wants them whatever the floats were.
        clipped = _clip(noised, outputs, films)
        # (5) Durable before anything is drawn: approval, cap and budget checked in the same transaction.
        day = today().isoformat()
        charges = _charge(campaign, films, ledger, paid, source, day)
        admitted = [index for index, charge in enumerate(charges) if charge is not None]
        # (6) The only place where something about an X-ray is given away.
        paid_for = _present(charges)
        drawn = draw(noised, clipped.take(admitted), _seeds(campaign, ledger, paid_for), source)
        # (7) Only what a mechanism drew has a packed form, or a picture made of that and of the public encoder alone.
        payloads = pack(drawn if painter is None else make_images(painter, drawn, source))
        # (8) Durable before a byte leaves.
        ledger.seal(zip(paid_for, payloads, strict=True), day)

        sealed += len(admitted)
        refused += len(films) - len(admitted)
        progress(sealed + refused, len(work.items))
    return Released(sealed, work.left_out + refused, len(work.items) - sealed - refused, work.waiting)


@dataclass(frozen=True)
class _Work:
    items: list[Item]
    left_out: int
    waiting: int


def _work_list(
    campaign: Campaign,
    data_set: DataSet,
    ledger: SiteLedger,
    paid: dict[bytes, OpenCharge],
    budget: PrivacyLoss,
    source: ByteSource,
    late_batch: int,
) -> _Work:
    """The X-rays to draw for, in an order drawn by lot, and how many are left out or must wait for company."""
    charged = ledger.charged_xrays(campaign_id(campaign))
    todo = [item for item in data_set.items if item.identity in paid or item.identity not in charged]
    # The order of files tells labels and patients apart: shuffle all of the work, not each chunk of it.
    lot = [todo[index] for index in shuffled(len(todo), source)]
    # Whose cap or budget is full is left out here, not at its charge: a chunk with gaps would tell the centre how many
    # X-rays the units have. The charge checks again.
    room: dict[bytes, int] = {}
    items: list[Item] = []
    for item in lot:
        if item.identity not in paid:
            left = room[item.patient] if item.patient in room else ledger.room(campaign, item.patient, budget)
            room[item.patient] = left - 1
            if left <= 0:
                continue
        items.append(item)
    resumed = [item for item in items if item.identity in paid]
    late = len(items) - len(resumed)
    if charged - paid.keys() and late < late_batch:
        return _Work(resumed, len(lot) - len(items), late)
    return _Work(items, len(lot) - len(items), 0)


def _resumable(campaign: Campaign, data_set: DataSet, ledger: SiteLedger) -> dict[bytes, OpenCharge]:
    """The charges that a crash left open, by X-ray. A charge pays for the unit that it was taken from and no other.

    An X-ray that has since been given to another unit (a corrected label table) is left out of this campaign for good:
    its charge is abandoned and stays spent, and the other unit never paid.
    """
    units: dict[bytes, bytes] = {item.identity: item.patient for item in data_set.items}
    paid: dict[bytes, OpenCharge] = {}
    for charge in ledger.open_charges(campaign_id(campaign)):
        if units.get(charge.xray, charge.unit) == charge.unit:
            paid[charge.xray] = charge
        else:
            ledger.abandon(charge)
    return paid


@dataclass(frozen=True)
class _Film:
    item: Item
    image: torch.Tensor  # (1, H, W)


def _read_and_prepare(data_set: DataSet, encoder: Encoder, queue: Iterator[Item], chunk: int) -> list[_Film]:
    """The next X-rays that can be read: a whole chunk while there are enough, so that no gap tells of the others."""
    films: list[_Film] = []
    for item in queue:
        try:
            xray = data_set.read(item)
            image = encoder.prepare(xray.pixels, inverted=xray.inverted, window=xray.window, bits=xray.bits)
        except (QuarantinedError, ParameterError):
            continue
        films.append(_Film(item, image))
        if len(films) == chunk:
            break
    return films


def _clip(noised: ReleaseSpec, outputs: np.ndarray, films: list[_Film]) -> Input:
    labels = np.array([film.item.label for film in films], dtype=np.int64)
    return prepare_integers(noised, outputs, labels)


def _charge(
    campaign: Campaign,
    films: list[_Film],
    ledger: SiteLedger,
    paid: dict[bytes, OpenCharge],
    source: ByteSource,
    day: str,
) -> list[OpenCharge | None]:
    """One charge for each X-ray, in order; None where budget or cap is full. What is paid is not paid again."""
    unpaid = [film.item for film in films if film.item.identity not in paid]
    requests = [ChargeRequest(item.patient, item.identity, source(32)) for item in unpaid]
    answers = dict(zip((item.identity for item in unpaid), ledger.charge(campaign, requests, day), strict=True))
    charges = [paid.get(film.item.identity) or answers[film.item.identity] for film in films]
    return [None if isinstance(charge, BudgetExceededError) else charge for charge in charges]


def _seeds(campaign: Campaign, ledger: SiteLedger, charges: list[OpenCharge]) -> list[bytes]:
    """The public seed of each record's codewords, known to both sides and fixed before anything is drawn."""
    name = campaign_id(campaign)
    return [codebook_seed(name, ledger.genesis.site, charge.sequence) for charge in charges]


def _present(charges: list[OpenCharge | None]) -> list[OpenCharge]:
    return [charge for charge in charges if charge is not None]
