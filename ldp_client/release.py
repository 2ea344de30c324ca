"""The first spine: how an X-ray becomes a record, and where privacy is lost and counted.

Privacy is lost at step 6 and nowhere else. It is counted at step 5, durably, before step 6 begins. What step 8 has made
durable is what will be sent, whatever happens later; nothing is ever drawn twice for one X-ray and campaign.

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

from ldp_client.errors import BudgetExceededError, PolicyRefusedError, QuarantinedError
from ldp_client.flow.encoder import Encoder
from ldp_client.imaging.dataset import DataSet, Item
from ldp_client.imaging.xray import XRay
from ldp_client.ledger.store import ChargeRequest, OpenCharge, SiteLedger
from ldp_client.privacy.clipping import Clipped, clip, to_grid
from ldp_client.privacy.labels import joint_vector
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.noise import ByteSource, shuffled
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.record import pack

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

    Raises:
        WaitingError: no standing approval; nothing was charged.
        PolicyRefusedError: the policy does not allow it, or another encoder is installed than the campaign names.
    """
    if encoder.digest != campaign.encoder:
        raise PolicyRefusedError(
            f"the campaign names the encoder {campaign.encoder[:12]}; the one installed is {encoder.digest[:12]}. "
            "Install that bundle and name it in agent.toml"
        )
    ledger.standing_approval(campaign, today().isoformat())
    paid = {charge.xray: charge for charge in ledger.open_charges(campaign_id(campaign))}
    work, waiting = _work_list(campaign, data_set, ledger, set(paid), late_batch)
    mechanism = DiscreteLaplace(campaign.release.laplace)
    sealed = left_out = quarantined = done = 0

    # The order of files tells labels and patients apart: shuffle all of the work, not each chunk of it.
    for items in _chunks([work[index] for index in shuffled(len(work), source)], chunk):
        # (1) Pixels and label come into memory; what cannot be read is set aside and costs nothing.
        xrays = _read(data_set, items)
        # (2) The same code prepared the public images that trained the encoder.
        images = _prepare(encoder, xrays)
        # (3) The frozen public GLOW and its bottleneck: floats, and the last that are not integers.
        outputs = encoder.encode(images)  # (N, k)
        # (4) X-ray and label as one vector on the integer grid, inside the ball whatever the floats were.
        vectors = _clip(campaign, outputs, xrays)
        # (5) Durable before anything is drawn: approval, cap and budget checked in the same transaction.
        charges = _charge(campaign, xrays, ledger, paid, source, today)
        admitted = [index for index, charge in enumerate(charges) if charge is not None]
        # (6) The only place where something about an X-ray is given away.
        noised = mechanism(Clipped(vectors.steps[admitted], vectors.clip), source)
        # (7) Only noised integers have a packed form.
        payloads = pack(noised)
        # (8) Durable before a byte leaves.
        ledger.seal([(charge, payload) for charge, payload in zip(_present(charges), payloads, strict=True)])

        sealed += len(admitted)
        left_out += len(xrays) - len(admitted)
        quarantined += len(items) - len(xrays)
        done += len(items)
        progress(done, len(work))
    return Released(sealed, left_out, quarantined, waiting)


def _work_list(
    campaign: Campaign, data_set: DataSet, ledger: SiteLedger, paid: set[bytes], late_batch: int
) -> tuple[list[Item], int]:
    """The X-rays to draw for, and how many late arrivals must wait for company."""
    charged = ledger.charged_xrays(campaign_id(campaign))
    resumed = [item for item in data_set.items if item.identity in paid]
    fresh = [item for item in data_set.items if item.identity not in charged]
    if charged - paid and len(fresh) < late_batch:
        return resumed, len(fresh)
    return resumed + fresh, 0


def _chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _read(data_set: DataSet, items: list[Item]) -> list[tuple[Item, XRay]]:
    xrays = []
    for item in items:
        try:
            xrays.append((item, data_set.read(item)))
        except QuarantinedError:
            continue
    return xrays


def _prepare(encoder: Encoder, xrays: list[tuple[Item, XRay]]) -> torch.Tensor:
    if not xrays:
        return torch.zeros((0, 1, encoder.size, encoder.size))
    return torch.stack(
        [encoder.prepare(xray.pixels, inverted=xray.inverted, window=xray.window, bits=xray.bits) for _, xray in xrays]
    )  # (N, 1, H, W)


def _clip(campaign: Campaign, outputs: np.ndarray, xrays: list[tuple[Item, XRay]]) -> Clipped:
    spec = campaign.release
    labels = np.array([item.label for item, _ in xrays], dtype=np.int64)
    return clip(to_grid(joint_vector(outputs, labels, spec.classes), spec.laplace.grid), spec.laplace.clip)


def _charge(
    campaign: Campaign,
    xrays: list[tuple[Item, XRay]],
    ledger: SiteLedger,
    paid: dict[bytes, OpenCharge],
    source: ByteSource,
    today: Clock,
) -> list[OpenCharge | None]:
    """One charge for each X-ray, in order; None where budget or cap is full. What is paid is not paid again."""
    unpaid = [item for item, _ in xrays if item.identity not in paid]
    requests = [ChargeRequest(item.patient, item.identity, source(32)) for item in unpaid]
    answers = dict(
        zip((item.identity for item in unpaid), ledger.charge(campaign, requests, today().isoformat()), strict=True)
    )
    charges: list[OpenCharge | None] = []
    for item, _ in xrays:
        answer = paid[item.identity] if item.identity in paid else answers[item.identity]
        charges.append(None if isinstance(answer, BudgetExceededError) else answer)
    return charges


def _present(charges: list[OpenCharge | None]) -> list[OpenCharge]:
    return [charge for charge in charges if charge is not None]
