"""What an audit found, for programs (JSON), for the terminal (rows) and for a board (a page)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from ldp_client.audit.findings import ALPHA, Attack, Audit, Bound, Fit, Twin
from ldp_client.audit.page import PAGE
from ldp_client.errors import ConfigurationError

Row = dict[str, Any]
DATA_FILE, PAGE_FILE = "audit.json", "audit.html"


def document(found: Audit) -> Row:
    """The JSON document. A row with `mechanism` is a bound, one with `twin` a bug that was put in on purpose.

    `lower_bound` is null where no epsilon at all would be large enough.
    """
    return {
        "holds": not found.failures,
        "failures": list(found.failures),
        "rows": [
            *({**_bound_row(bound), "lower_bound": _finite(bound.lower_bound)} for bound in found.bounds),
            *({"twin": twin.twin, "caught": twin.caught, "by": twin.by} for twin in found.twins),
        ],
        "fits": [
            {
                "what": fit.what,
                "p_value": fit.p_value,
                "events": fit.events,
                "samples": fit.samples,
                "verdict": fit.verdict,
            }
            for fit in found.fits
        ],
        "attacks": [
            {
                "target": attack.target,
                "success": attack.success,
                "at_least": attack.at_least,
                "ceiling": attack.ceiling,
                "samples": attack.samples,
                "verdict": attack.verdict,
            }
            for attack in found.attacks
        ],
        "alpha_per_check": ALPHA,
        "random_checks": found.random_checks,
        "alpha": found.alpha,
        "effort": found.effort.name,
        "seconds": found.seconds,
        "versions": dict(found.versions),
    }


def tables(found: Audit) -> dict[str, list[Row]]:
    """Rows for the terminal, by title."""
    return {
        "Claimed and measured": [_shown(bound) for bound in found.bounds],
        "Attack on the low bits: guesses of one of two inputs": [_attack_row(attack) for attack in found.attacks],
        "Distribution of the noise": [_fit_row(fit) for fit in found.fits],
        "Bugs put in on purpose": [_twin_row(twin) for twin in found.twins],
    }


def summary(found: Audit) -> list[str]:
    """The verdict in three sentences."""
    caught = sum(twin.caught for twin in found.twins)
    held = sum(bound.holds for bound in found.bounds)
    return [
        f"{held} of {len(found.bounds)} claims hold; {caught} of {len(found.twins)} twins with a bug were noticed.",
        f"The chance that this run accuses right mechanisms is at most {found.alpha:.1e} "
        f"({found.random_checks} random checks at {ALPHA:.0e} each; exact checks cannot err by chance).",
        f"{found.effort.name} audit, {found.seconds:.0f} seconds.",
    ]


def folder(out: Path) -> Path:
    """A folder to write to, made if need be, without an earlier report: asked for before an audit, which takes minutes.

    Raises:
        ConfigurationError: it cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be made a folder ({error.strerror}); choose another --out") from error
    if not os.access(out, os.W_OK):
        raise ConfigurationError(f"{out} cannot be written to; choose another --out")
    # An audit that does not finish must not leave an earlier one's verdict standing.
    for name in (DATA_FILE, PAGE_FILE):
        (out / name).unlink(missing_ok=True)
    return out


def write(found: Audit, out: Path) -> tuple[Path, Path]:
    """audit.json and audit.html in a folder that is there."""
    data, page = out / DATA_FILE, out / PAGE_FILE
    data.write_text(json.dumps(document(found), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    page.write_text(html(found), encoding="utf-8")
    return data, page


def html(found: Audit) -> str:
    """The page: one file, no script, nothing loaded from anywhere."""
    attack = {one.control: one for one in found.attacks}
    sound = not found.failures
    caught = sum(twin.caught for twin in found.twins)
    tiles = (
        ("Every claim holds" if sound else "Do not release", "verdict of this run"),
        (f"{sum(bound.holds for bound in found.bounds)} of {len(found.bounds)}", "privacy claims hold"),
        (f"{caught} of {len(found.twins)}", "bugs put in on purpose were noticed"),
        (f"1 in {1e-6 / found.alpha:.1f} million", "chance of a false alarm, at most"),
    )
    verdict = (
        "Nothing that was measured gives away more than it claims."
        if sound
        else "These checks failed: " + "; ".join(found.failures) + ". Release nothing with this installation."
    )
    return PAGE.substitute(
        state="good" if sound else "bad",
        tiles="".join(f"<li><strong>{escape(value)}</strong><span>{escape(name)}</span></li>" for value, name in tiles),
        verdict=escape(verdict),
        sampled="".join(_claim(bound) for bound in found.bounds if bound.samples),
        exact="".join(_claim(bound) for bound in found.bounds if not bound.samples),
        float_success=_percent(attack[True].success),
        our_success=_percent(max(one.success for one in found.attacks if not one.control)),
        ceiling=_percent(attack[True].ceiling),
        attacks=_rows([_attack_row(one) for one in found.attacks]),
        fits=_rows([_fit_row(fit) for fit in found.fits]),
        twins=_rows([_twin_row(twin) for twin in found.twins]),
        alpha=f"{found.alpha:.1e}",
        each=f"{ALPHA:.0e}",
        checks=found.random_checks,
        versions=escape(_words(found.versions)),
        effort=found.effort.name,
        seconds=f"{found.seconds:.0f}",
    )


def _bound_row(bound: Bound) -> Row:
    return {
        "mechanism": bound.mechanism,
        "claimed": bound.claimed,
        "lower_bound": bound.lower_bound,
        "verdict": bound.verdict,
        "reached": round(bound.tightness, 4) if math.isfinite(bound.tightness) else None,
        "samples": bound.samples,
    }


def _shown(bound: Bound) -> Row:
    return {
        "mechanism": bound.mechanism,
        "claimed": f"{bound.claimed:g}",
        "measured at least": _measured(bound),
        "share of the claim": _share(bound),
        "by": bound.method,
        "verdict": bound.verdict,
    }


def _attack_row(attack: Attack) -> Row:
    return {
        "target": attack.target,
        "right": _percent(attack.success),
        "ceiling": _percent(attack.ceiling),
        "guesses": f"{attack.samples:,}",
        "verdict": attack.verdict,
    }


def _fit_row(fit: Fit) -> Row:
    return {
        "what": fit.what,
        "samples": f"{fit.samples:,}",
        "events": fit.events,
        "p-value": f"{fit.p_value:.2g}",
        "verdict": fit.verdict,
    }


def _twin_row(twin: Twin) -> Row:
    return {"bug": twin.twin, "noticed by": twin.by, "verdict": "caught" if twin.caught else "MISSED"}


def _claim(bound: Bound) -> str:
    width = min(100.0, 100 * bound.tightness)
    meter = f'<div class="meter"><i style="width:{width:.1f}%"></i></div>'
    cells = (f"{bound.claimed:g}", _measured(bound), f"{meter}{_share(bound)}", escape(bound.verdict))
    state = "" if bound.holds else ' class="wrong"'
    return (
        f'<tr{state}><th scope="row">{escape(bound.mechanism)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    )


def _rows(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        first, *rest = (escape(str(value)) for value in row.values())
        # Verdicts that are bad news are written in capitals.
        state = ' class="wrong"' if rest[-1].isupper() else ""
        lines.append(f'<tr{state}><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>')
    return "".join(lines)


def _share(bound: Bound) -> str:
    return f"{100 * bound.tightness:.0f} %" if math.isfinite(bound.tightness) else "beyond"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _measured(bound: Bound) -> str:
    if not math.isfinite(bound.lower_bound):
        return "unbounded"
    # A bound from below is rounded down; an exact one is shown in the millionths that it is compared in.
    return f"{math.floor(1000 * bound.lower_bound) / 1000:.3f}" if bound.samples else f"{bound.lower_bound:.6f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _words(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
