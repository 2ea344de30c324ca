"""How a site answers an evaluation: its held-out X-rays are scored, and one noised histogram of the scores leaves.

The twin of `release.py` for the evaluation set. Privacy is lost at step 7 and nowhere else; it is counted at step 5,
for every unit of the set, durably, before step 7 begins.

| the power fails | and then |
|---|---|
| before 5 | nothing was lost, nothing was counted; the evaluation is answered another day |
| between 5 and 9 | counted, not lost: no byte of the draw survived. The query is taken up again, never refunded |
| after 9 | the sealed histogram waits in the ledger and is sent as it is; it is never drawn again |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ldp_client.diagnosis.bundle import ClassifierBundle, read_bundle
from ldp_client.diagnosis.scoring import binned
from ldp_client.errors import ParameterError, PolicyRefusedError, QuarantinedError
from ldp_client.evaluation_set import evaluation_items
from ldp_client.flow.encoder import Encoder
from ldp_client.imaging.dataset import DataSet, Item
from ldp_client.ledger.store import SiteLedger
from ldp_client.privacy.histogram import Histogram, count
from ldp_client.privacy.noise import ByteSource
from ldp_client.release import Clock
from ldp_client.wire.answer import pack_answer
from ldp_client.wire.evaluation import Evaluation, asked_id

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Answered:
    """What a run did. These counts are for the officer: they never leave the site.

    `xrays` were counted, of the `units` that were charged; `left_out` units have no budget left.
    """

    xrays: int
    units: int
    left_out: int


def evaluate(
    evaluation: Evaluation,
    data_set: DataSet,
    *,
    ledger: SiteLedger,
    encoder: Encoder,
    source: ByteSource,
    today: Clock,
    chunk: int = 100,
    progress: Progress = lambda done, total: None,
) -> Answered | None:
    """Answer an evaluation once and for all; None if that was done before.

    1. read   2. prepare   3. score   4. bin   5. charge   6. count   7. draw   8. pack   9. seal

    The set is charged and drawn for even if nobody is in it: silence would say so.

    Raises:
        WaitingError: no standing approval; nothing was charged.
        PolicyRefusedError: the policy does not allow it, or it does not fit the encoder or the data set.
        ClassifierError: what it carries is not a classifier that this version can run.
        BudgetExceededError: with what was charged before, the lifetime budget does not hold it.
    """
    name = asked_id(evaluation)
    if ledger.is_answered(name):
        return None
    bundle = _fitting_bundle(evaluation, data_set, encoder)
    policy = ledger.standing_approval(evaluation, today().isoformat()).policy
    resumed = ledger.open_query(name)
    # What a crash left open pays for the units that were charged, and for no others.
    items = evaluation_items(data_set, policy, ledger)
    if resumed is not None:
        items = [item for item in items if item.patient in resumed.units]

    # (1) to (4) The clean scores stay in memory, as bins.
    scored = _score(evaluation, bundle, data_set, encoder, items, chunk, progress)
    # (5) Durable before anything is drawn: approval and budget checked in the same transaction. All units of the set
    # pay, also those of whom no X-ray could be read: whether one can be read depends on its pixels.
    day = today().isoformat()
    units = {item.patient for item in items}
    query = resumed or ledger.query(evaluation, units, source(32), day)
    # (6) Only what was paid for counts, and at most the cap of each unit.
    paid = [index for index, unit in enumerate(scored.units) if unit in query.units]
    counts = count(
        evaluation.histogram,
        [scored.units[index] for index in paid for _ in scored.rows[index]],
        scored.rows[paid].reshape(-1),
        scored.bins[paid].reshape(-1),
    )
    # (7) The only place where something about the set is given away.
    drawn = Histogram(evaluation.histogram)(counts, source)
    # (8) Only what the mechanism drew has a packed form.
    payload = pack_answer(drawn)
    # (9) Durable before a byte leaves.
    ledger.answer(query, payload, day)
    return Answered(len(paid), len(query.units), len(units - query.units))


def _fitting_bundle(evaluation: Evaluation, data_set: DataSet, encoder: Encoder) -> ClassifierBundle:
    if encoder.digest != evaluation.encoder:
        raise PolicyRefusedError(
            f"the evaluation names the encoder {evaluation.encoder[:12]}; the one installed is {encoder.digest[:12]}. "
            "Install that bundle and name it in agent.toml"
        )
    bundle = read_bundle(evaluation.classifier, evaluation.weights)
    if not bundle.card.label_names == evaluation.label_names == data_set.label_names:
        raise PolicyRefusedError(
            f"the evaluation {evaluation.name}, its classifier and the data set have other labels; "
            "ask the centre for an evaluation that fits its classifier"
        )
    bundle.check_encoder(encoder)
    return bundle


@dataclass(frozen=True, eq=False)
class _Scored:
    """Of each X-ray its unit, and the rows and bins (N, K-1) in which it counts."""

    units: list[bytes]
    rows: NDArray[np.int64]
    bins: NDArray[np.int64]


def _score(
    evaluation: Evaluation,
    bundle: ClassifierBundle,
    data_set: DataSet,
    encoder: Encoder,
    items: Sequence[Item],
    chunk: int,
    progress: Progress,
) -> _Scored:
    units: list[bytes] = []
    classes = len(evaluation.label_names)
    nothing = np.empty((0, classes - 1), dtype=np.int64)
    rows, bins = [nothing], [nothing]
    queue, seen = iter(items), 0
    taken: Counter[bytes] = Counter()
    while films := _read_and_prepare(data_set, encoder, queue, chunk, taken, evaluation.cap):
        scores = bundle.scores(encoder, torch.stack([image for _, image in films]))
        labels = np.array([item.label for item, _ in films], dtype=np.int64)
        row, place = binned(scores, labels, evaluation.edges)
        rows.append(row)
        bins.append(place)
        units += [item.patient for item, _ in films]
        seen += len(films)
        progress(seen, len(items))
    return _Scored(units, np.concatenate(rows), np.concatenate(bins))


def _read_and_prepare(
    data_set: DataSet, encoder: Encoder, queue: Iterator[Item], chunk: int, taken: Counter[bytes], cap: int
) -> list[tuple[Item, torch.Tensor]]:
    """The next X-rays that can be read, at most `cap` of each unit."""
    films: list[tuple[Item, torch.Tensor]] = []
    for item in queue:
        if taken[item.patient] == cap:
            continue
        try:
            xray = data_set.read(item)
            image = encoder.prepare(xray.pixels, inverted=xray.inverted, window=xray.window, bits=xray.bits)
        except (QuarantinedError, ParameterError):
            continue
        taken[item.patient] += 1
        films.append((item, image))
        if len(films) == chunk:
            break
    return films
