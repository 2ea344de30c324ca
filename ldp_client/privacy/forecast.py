"""What a campaign at hand would be worth to a site, as its screen shows it: free, since nothing is drawn for it.

A site knows its own records only. So it sees the forecast for as many, for three and for ten times as many, unless it
was told how many all sites give together.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import MICRO
from ldp_client.privacy.planner import CHANCE, SCENARIOS, TIE, advise, verdict
from ldp_client.privacy.prediction import Population, predict
from ldp_client.privacy.release_spec import DpGlowSpec, ReleaseSpec

TIMES = (1, 3, 10)


def outlook(
    release: ReleaseSpec, records: int, prevalence: Sequence[float] | None = None, auc: float | None = None
) -> list[dict[str, object]]:
    """The prediction of one release for 1, 3 and 10 times as many records, for programs.

    For the AUC without noise that is given, else for each scenario; classes equally frequent where no prevalence is.
    """
    if records < 1:
        raise ParameterError(f"a prediction needs at least 1 record; found {records}")
    scenarios = SCENARIOS if auc is None else {"auc": auc}
    rows: list[dict[str, object]] = []
    for times in TIMES:
        row: dict[str, object] = {"records": times * records}
        for name, area in scenarios.items():
            found = predict(release, _population(release, prevalence, area), times * records)
            row[f"{name}_{area:g}"] = f"{found.auc:.2f}"
        rows.append(row)
    return rows


def outlook_lines(
    release: ReleaseSpec,
    records: int,
    *,
    total: bool,
    prevalence: Sequence[float] | None = None,
    auc: float | None = None,
) -> list[str]:
    """The prediction in words for a site's screen, what it rests on, and what to ask for instead.

    `total` says that `records` are those of all sites; otherwise they are one site's, and 3 and 10 times as many are
    shown beside them.
    """
    population = _population(release, prevalence, SCENARIOS["usual"] if auc is None else auc)
    counts = [times * records for times in ((1,) if total else TIMES)]
    unsaid = [
        *(["AUC without noise: --auc says another"] if auc is None else []),
        *(["equally frequent labels: --prevalence says others"] if prevalence is None else []),
        *([] if total else ["how many records all sites give together is not known here: --records says it"]),
    ]
    return [
        "forecast, for which nothing was drawn:",
        *(f"  {verdict(release, population, count, predict(release, population, count))}" for count in counts),
        *(f"  {line}" for line in counsel(release, population, counts[-1])),
        f"  (supposing AUC {population.auc:g} without noise and labels as frequent as "
        f"{', '.join(f'{share:.2g}' for share in population.prevalence)}"
        + (f"; not known: {'; '.join(unsaid)}" if unsaid else "")
        + ")",
    ]


def counsel(release: ReleaseSpec, population: Population, records: int) -> list[str]:
    """Whether another release of the same epsilon would be worth more; a warning where this one is worth nothing."""
    own = predict(release, population, records).auc
    latents = release.input_dimension if isinstance(release, DpGlowSpec) else None
    found = advise(
        population,
        records,
        epsilon=Fraction(release.loss.micro_epsilon, MICRO),
        dimension=release.input_dimension,
        latents=latents,
    )
    best = found.recommended
    better = best.prediction.auc > own + TIE
    lines = []
    if own < CHANCE:
        lines.append(f"warning: this campaign cannot work with {records:,} records, whoever approves it")
        if found.at_chance:
            return [*lines, "no mechanism does better: more records are needed, or fewer coordinates"]
    if better:
        lines.append(
            f"at the same epsilon {best.candidate.name} would reach AUC {best.prediction.auc:.2f}: "
            "ask the centre for it"
        )
    elif own >= CHANCE:
        lines.append("no other mechanism would be worth more at the same epsilon")
    return lines


def _population(release: ReleaseSpec, prevalence: Sequence[float] | None, auc: float) -> Population:
    return Population(auc, tuple(prevalence or [1 / release.classes] * release.classes))
