"""`python -m examples.demo`: the whole road on one machine, and what came of it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from examples.demo import hospitals, network
from examples.demo.hospitals import Country
from examples.demo.output import begin
from examples.demo.report import screen, write_report
from examples.demo.result import DemoResult, Example, SiteRow
from ldp_client.errors import LdpError, VerificationError
from ldp_client.export import write_export as write_site_export
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.clipping import clip, to_grid
from ldp_client.privacy.labels import joint_vector
from ldp_client.privacy.laplace import decode
from ldp_client.privacy.release_spec import JointLaplaceSpec
from ldp_client.processes import unwinding_on_sigterm
from ldp_client.site import data_set
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import campaign_id
from ldp_client.wire.record import unpack
from server.learning.reconstruction import reconstruct
from server.learning.train import TrainingSet, train
from server.store.export import write_export as write_central_export
from server.store.queries import budgets, records_of

EXAMPLES = 4
WAIT_SECONDS = 180.0
Outputs = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether every export verifies, and what the verifier says of each."""

    holds: bool
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What the encoder makes of images that the demo may look at: the public pool, the test set, and, only to show
    what the noise costs, the hospitals' own."""

    public: Outputs
    test: Outputs
    private: Outputs


def main() -> int:
    """Run the demo; 0, 6 when a ledger does not verify, or a refusal's exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--data", choices=("auto", "file", "fetch", "phantoms"), default="auto")
    parser.add_argument("--patients", action="store_true", help="patients as the unit, on cxr64 (needs LDP_DATA)")
    parser.add_argument("--invert-labels", action="store_true", help="control: the hospitals' labels are all wrong")
    parser.add_argument(
        "--out", type=Path, default=None, help="new, empty or an earlier demo's; default: build/demo[-patients]"
    )
    arguments = parser.parse_args()
    out = arguments.out or Path("build") / ("demo-patients" if arguments.patients else "demo")
    console = Console()
    try:
        with unwinding_on_sigterm():
            country = hospitals.patients() if arguments.patients else hospitals.choose(arguments.data, Path("build"))
            if arguments.invert_labels:
                country = _inverted(country)
            result = run(country, out, console)
    except KeyboardInterrupt:
        console.print("stopped; every process that was started is ended")
        return 130
    except LdpError as refusal:
        print(f"demo: {refusal}", file=sys.stderr)
        return refusal.exit_code
    console.print(screen(result))
    console.print(f"\nReport: {out / 'report.html'}   Summary: {out / 'summary.json'}   Ledgers: {out / 'export'}")
    return 0 if result.ledgers_verified else VerificationError.exit_code


def run(country: Country, out: Path, console: Console) -> DemoResult:
    """The road from the first key to the report."""
    started = time.monotonic()
    # The hospitals need the cores; see network.processes.
    torch.set_num_threads(1)
    # Each run has a fresh state folder: budgets of an earlier demo are nobody's.
    begin(out)
    state = out / "state"
    state.mkdir()
    console.print(f"Data: {country.description}. The privacy unit is one {country.unit}.")
    encoder = open_bundle(country.encoder, Path())
    parties = network.build(state, country, encoder)
    with contextlib.closing(parties), _pool() as (pool, stop):
        encoded = pool.submit(_encode, encoder, country, stop)
        with network.processes(parties), _bars(console) as progress:
            _exchange(parties, progress)
        verdict = verify_all(_export(parties, out / "export"))
        result = _result(parties, encoded, verdict, started)
    write_report(out, result)
    return result


def _exchange(parties: network.Network, progress: Progress) -> None:
    arrived = progress.add_task(
        "campaign offered to the hospitals, approved by their officers", total=len(parties.sites)
    )
    for site in network.wait_for_campaigns(parties, WAIT_SECONDS):
        network.approve(parties.sites[site], parties.campaign)
        progress.advance(arrived)
    tasks: dict[str, TaskID] = {}
    for hospital in parties.country.hospitals:
        tasks[hospital.id] = progress.add_task(
            f"{hospital.name}: records charged, drawn, sealed", total=len(hospital.images)
        )
    for sealed in network.wait_until_finished(parties, WAIT_SECONDS):
        for site, records in sealed.items():
            progress.update(tasks[site], completed=records)
    for site, records in sealed.items():
        # Files set aside and X-rays beyond a cap are no records.
        progress.update(tasks[site], total=records)


@contextlib.contextmanager
def _pool() -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """A thread beside the waiting, and a word to stop it: Ctrl-C does not wait for its work."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool, stop
        finally:
            stop.set()


def _encode(encoder: Encoder, country: Country, stop: threading.Event) -> Encoded:
    def outputs(images: NDArray[np.uint8]) -> Outputs:
        parts = []
        for start in range(0, len(images), 128):
            if stop.is_set():
                raise KeyboardInterrupt
            part = images[start : start + 128]
            tensors = [encoder.prepare(image, inverted=False, window=None, bits=8) for image in part]
            parts.append(encoder.encode(torch.stack(tensors)))
        return np.concatenate(parts)[:, : network.COORDINATES]

    private = np.concatenate([hospital.images for hospital in country.hospitals])
    return Encoded(outputs(country.public_images), outputs(country.test_images), outputs(private))


def _export(parties: network.Network, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.jsonl" for name in parties.sites]
    for path, site in zip(paths, parties.sites.values(), strict=True):
        write_site_export(site, path)
    with parties.centre.database.snapshot() as connection:
        write_central_export(connection, parties.centre.keys.signing, folder / "centre.jsonl")
    return [*paths, folder / "centre.jsonl"]


def verify_all(exports: list[Path]) -> Verdict:
    """Verify each export; one that does not hold stops neither the others nor the report."""
    lines: list[str] = []
    holds = True
    for path in exports:
        try:
            lines += verify_export(path).lines()
        except VerificationError as error:
            holds = False
            lines.append(f"{path.name}: NOT verified: {error}")
    return Verdict(holds, tuple(lines))


def _result(parties: network.Network, encoding: Future[Encoded], verdict: Verdict, started: float) -> DemoResult:
    country, campaign = parties.country, parties.campaign
    with parties.centre.database.snapshot() as connection:
        records = list(records_of(connection, campaign_id(campaign)))
        accounts = {account.site: account for account in budgets(connection)}
    trained = train(TrainingSet.from_payloads(campaign, [record.payload for record in records]))
    encoded = encoding.result()
    without = train(TrainingSet(campaign, _clipped(parties.release, country, encoded.private)))
    return DemoResult(
        data=country.description,
        unit=country.unit,
        sites=tuple(
            SiteRow(
                site=hospital.id,
                name=hospital.name,
                records=accounts[hospital.id].records,
                epsilon_per_record=accounts[hospital.id].per_record,
                unit=country.unit,
                unit_bound=accounts[hospital.id].spent,
                budget=accounts[hospital.id].agreed,
                remaining=accounts[hospital.id].remaining,
            )
            for hospital in country.hospitals
        ),
        release=parties.release,
        label_names=campaign.label_names,
        encoder=f"{parties.encoder.card.name} ({campaign.encoder[:12]})",
        test_labels=country.test_labels,
        scores=trained.classifier.scores(encoded.test)[:, 1],
        scores_no_noise=without.classifier.scores(encoded.test)[:, 1],
        examples=_examples(parties, encoded),
        public_average=country.public_images.mean(axis=0),
        public_images=len(country.public_images),
        ledgers_verified=verdict.holds,
        verifier_lines=verdict.lines,
        seconds=time.monotonic() - started,
    )


def _clipped(spec: JointLaplaceSpec, country: Country, outputs: Outputs) -> Outputs:
    """What the records would be without noise: the same vectors on the same grid in the same ball."""
    labels = np.concatenate([hospital.labels for hospital in country.hospitals])
    clipped = clip(to_grid(joint_vector(outputs, labels, spec.classes), spec.laplace.grid), spec.laplace.clip)
    return decode(clipped.steps, spec.laplace)


def _examples(parties: network.Network, encoded: Encoded) -> tuple[Example, ...]:
    """A few hospital X-rays beside their own records; the demo can match them, the centre cannot."""
    campaign, country = parties.campaign, parties.country
    hospital = country.hospitals[-1]
    ledger = parties.sites[hospital.id].ledger
    held = data_set(parties.sites[hospital.id], campaign)
    payloads = ledger.records_by_xray(campaign_id(campaign))
    chosen = []
    for label in range(len(campaign.label_names)):
        items = [item for item in held.items if item.label == label and item.identity in payloads]
        chosen += items[: EXAMPLES // len(campaign.label_names)]
    steps = np.stack([unpack(payloads[item.identity], parties.release) for item in chosen])
    drawn = reconstruct(steps, parties.release, country.public_images, encoded.public)
    return tuple(
        Example(
            xray=held.read(item).pixels.astype(np.uint8),
            label=item.label,
            released=tuple(int(step) for step in steps[index]),
            reconstruction=drawn.images[index],
            label_posterior=tuple(float(share) for share in drawn.labels[index]),
            likeliest_image=float(drawn.likeliest_image[index]),
        )
        for index, item in enumerate(chosen)
    )


def _inverted(country: Country) -> Country:
    turned = tuple(dataclasses.replace(hospital, labels=1 - hospital.labels) for hospital in country.hospitals)
    return dataclasses.replace(country, hospitals=turned)


def _bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


if __name__ == "__main__":
    raise SystemExit(main())
