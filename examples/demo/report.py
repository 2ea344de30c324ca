"""What a demo run is told as: one screen, summary.json, and a report.html that a hospital's board can read.

The report is one file: style and pictures are inside, nothing is fetched and no script runs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.demo.page import PAGE
from examples.demo.pictures import budget_png, integers_in_words, roc_png, xrays_png
from examples.demo.result import BOOTSTRAPS, DemoResult, SiteRow
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import best_guess, in_words

VERIFY = "python -m ldp_client.verify build/demo/export/*.jsonl"
_HONEST = "Research use, not a medical device."


def write_report(folder: Path, result: DemoResult) -> None:
    """Write summary.json, report.html, xrays.png, budget.png and roc.png to `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"xrays.png": xrays_png(result), "budget.png": budget_png(result), "roc.png": roc_png(result)}
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    (folder / "report.html").write_text(_page(result, pictures), encoding="utf-8")
    summary = json.dumps(_summary(result), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "summary.json").write_text(summary + "\n", encoding="utf-8")


def screen(result: DemoResult) -> RenderableType:
    """The run on one screen of 80 columns. Texts are `Text`s, so no name is read as markup."""
    unit = result.unit
    table = Table(box=box.SIMPLE_HEAD, expand=False)
    table.add_column("site", overflow="fold", vertical="bottom")
    for head in (
        "records\nsent",
        "epsilon\nper record",
        f"bound per\n{unit} spent",
        f"budget\nper {unit}",
        "remaining",
    ):
        table.add_column(head, justify="right", vertical="bottom", no_wrap=True)
    for site in result.sites:
        table.add_row(Text(site.name), f"{site.records:,}", *(str(loss) for loss in _losses(site)))
    noisy, clean = result.curve, result.curve_no_noise
    verified = Text("both ledgers verified offline", style="green")
    if not result.ledgers_verified:
        verified = Text("LEDGERS NOT VERIFIED: do not rely on the figures above", style="bold red")
    return Group(
        Text(result.data, style="bold"),
        table,
        Text("Epsilon covers X-ray and label together. " + _unit_sentence(result)),
        Text(""),
        Text.assemble(
            f"classifier on {len(result.test_labels):,} clean test X-rays: ",
            (f"AUC {noisy.auc:.3f}", "bold"),
            f" ({noisy.low:.3f} to {noisy.high:.3f}), without noise {clean.auc:.3f}",
        ),
        verified,
        Text(f"{result.seconds:.0f} seconds. {_HONEST}"),
    )


def _summary(result: DemoResult) -> dict[str, object]:
    """Losses become JSON numbers: with at most 12 significant digits a float prints as the exact decimal."""
    return {
        "data": result.data,
        "sites": [
            {
                "site": site.site,
                "records": site.records,
                "epsilon_per_record": float(site.epsilon_per_record),
                "unit": site.unit,
                "unit_bound": float(site.unit_bound),
                "budget": float(site.budget),
                "remaining": float(site.remaining),
            }
            for site in result.sites
        ],
        "epsilon": float(result.epsilon),
        "auc": result.curve.auc,
        "auc_no_noise": result.curve_no_noise.auc,
        "test_images": len(result.test_labels),
        "ledgers_verified": result.ledgers_verified,
        "seconds": round(result.seconds, 1),
    }


def _unit_sentence(result: DemoResult) -> str:
    if result.unit == "image":
        return "The unit is one image: nothing is promised about a person with several images."
    return "The unit is one patient at one site, with all X-rays and labels that the site has of that patient."


def _page(result: DemoResult, pictures: dict[str, bytes]) -> str:
    noisy, clean, unit = result.curve, result.curve_no_noise, result.unit
    verified = "verified" if result.ledgers_verified else "NOT verified"
    tiles = (
        (f"{result.records:,}", f"records from {len(result.sites)} sites"),
        (f"epsilon {result.epsilon}", "per record, X-ray and label together"),
        (f"{noisy.auc:.3f}", f"AUC on clean test X-rays; {clean.auc:.3f} without noise"),
        (verified, "both sides' ledgers, the hospitals' and the centre's"),
    )
    return PAGE.substitute(
        state="good" if result.ledgers_verified else "bad",
        honest=_HONEST,
        data=escape(result.data),
        tiles="".join(f"<li><strong>{escape(value)}</strong><span>{escape(name)}</span></li>" for value, name in tiles),
        happened=_paragraphs(_happened(result)),
        xrays=_figure(pictures["xrays.png"], _xrays_alt(result), _xrays_caption(result)),
        unit=escape(unit),
        unit_sentence=escape(_unit_sentence(result)),
        rows="".join(_row(site.name, site.records, *_losses(site)) for site in result.sites),
        total=f"{result.records:,}",
        budget=_figure(pictures["budget.png"], _budget_alt(result), ""),
        roc=_figure(pictures["roc.png"], _roc_alt(result), _roc_caption(result)),
        limits="".join(f"<li>{escape(limit)}</li>" for limit in _limits(result)),
        command=escape(VERIFY),
        verdict="Here is what it said at the end of this run:"
        if result.ledgers_verified
        else "In this run it did NOT verify both; do not rely on the figures above. It said:",
        lines=escape("\n".join(result.verifier_lines)),
        mechanism=escape(result.mechanism),
        seconds=f"{result.seconds:.0f}",
    )


def _happened(result: DemoResult) -> Iterable[str]:
    """For a board: what left, what it cost, what the centre could and could not learn."""
    noisy, count = result.curve, result.release.laplace.dimension
    numbers = f"{count} whole numbers" if count > 1 else "one whole number"
    yield (
        f"Each hospital kept its X-rays. From each one, software installed at the hospital computed {numbers} that "
        "combine the image with its label, held them within a fixed range, added random noise of the hospital's own, "
        f"and sent the result: {result.records:,} records in all, with the ledger entries that account for them. No "
        f"X-ray, no name and no readable label was sent. Each record cost epsilon {result.epsilon}, image and label "
        "together. The cost was written into the hospital's ledger before the noise was drawn; the centre's ledger "
        "counts the same and refuses what would pass the agreed budget."
    )
    yield (
        "From all records together the centre learnt what it asked for: a classifier that ranks "
        f"{len(result.test_labels):,} X-rays it had never seen with an AUC of {noisy.auc:.3f} (0.5 is guessing, 1 is "
        f"perfect). Without noise it would have been {result.curve_no_noise.auc:.3f}."
    )
    yield (
        f"What anybody can learn from one record alone is bounded by proof. {result.words} Somebody who already holds "
        "an X-ray may guess its label from the record, and with two equally likely labels is right at best "
        f" {100 * best_guess(result.epsilon):.1f} % of the time. These ceilings hold whatever else a reader knows "
        "and whatever computer they own; a second record of the same image would raise them."
    )
    if result.unit == "patient" and result.sites:
        # What a board is asked about is the patient, who may have several records.
        yield (
            "All records of one patient at one site together: "
            f"{in_words(max(site.unit_bound for site in result.sites), result.unit)}"
        )


def _limits(result: DemoResult) -> Iterable[str]:
    yield _unit_sentence(result) + (
        " What can be learnt from several images adds up."
        if result.unit == "image"
        else " Someone seen at two sites is counted at each, and the two add up."
    )
    yield "Epsilon does not cover which hospitals took part, how many records each sent, and when."
    yield "It does not cover the public X-rays that the encoder was made from."
    yield "What is true of many people, such as how pneumonia looks, can be learnt: that is the purpose."
    yield "The hospitals of this demo are simulated on one machine; other hospitals and other machines give other AUCs."


def _xrays_caption(result: DemoResult) -> str:
    if not result.examples:
        return "No example was kept."
    apart = max(float(np.abs(one.reconstruction - result.public_average).max()) for one in result.examples)
    likeliest = max(one.likeliest_image for one in result.examples)
    return (
        "The reconstruction is the best there is (in mean squared error) for someone who knows the mechanism and the "
        f"encoder and takes the X-ray for one of {result.public_images:,} public ones. It differs from the picture "
        f"drawn with no record at all by at most {apart:.1f} of 255 grey levels. After these records none of those "
        f"X-rays would be believed with more than {100 * likeliest:.2f} %; no record can take that above "
        f"{100 * result.image_ceiling:.2f} %. What other attackers find is in docs/attacks.md. The X-rays in the "
        "first column can be shown because the demo's images are public."
    )


def _xrays_alt(result: DemoResult) -> str:
    rows = []
    for number, one in enumerate(result.examples, 1):
        guess = int(np.argmax(one.label_posterior))
        rows.append(
            f"Row {number}: an X-ray labelled {result.label_names[one.label]}; what left: "
            f"{', '.join(integers_in_words(one.released))}; the label is guessed to be {result.label_names[guess]} "
            f"with {100 * one.label_posterior[guess]:.0f} %."
        )
    return (
        "For each example: the X-ray, the numbers that left, the best reconstruction from them, and the average public "
        "X-ray for comparison. " + " ".join(rows)
    )


def _budget_alt(result: DemoResult) -> str:
    bars = (f"{site.name}: {site.unit_bound} of {site.budget} spent, {site.remaining} left" for site in result.sites)
    return f"A bar for each site, epsilon per {result.unit}. " + "; ".join(bars) + "."


def _roc_alt(result: DemoResult) -> str:
    noisy, clean = result.curve, result.curve_no_noise
    return (
        f"ROC curves: from the records AUC {noisy.auc:.3f}, 95 % band {noisy.low:.3f} to {noisy.high:.3f}; without "
        f"noise AUC {clean.auc:.3f}."
    )


def _roc_caption(result: DemoResult) -> str:
    return (
        f"{len(result.test_labels):,} clean test X-rays. The band is the test set's own uncertainty ({BOOTSTRAPS:,} "
        "bootstrap samples); it does not show how another draw of the noise would move the curve. The dashed curve "
        "needs records without noise, which no centre ever has; the demo computes it for comparison."
    )


def _losses(site: SiteRow) -> tuple[PrivacyLoss, ...]:
    return site.epsilon_per_record, site.unit_bound, site.budget, site.remaining


def _row(name: str, records: int, *losses: PrivacyLoss) -> str:
    cells = (f"{records:,}", *(str(loss) for loss in losses))
    return f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _figure(png: bytes, alt: str, caption: str) -> str:
    data = base64.b64encode(png).decode()
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}">{words}</figure>'


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts)
