"""One audit, from the first check to the verdict."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

from ldp_client.audit.attacks import attacks
from ldp_client.audit.engine import INSTALLED, Engine
from ldp_client.audit.enumeration import enumerations
from ldp_client.audit.estimates import measure, mechanism_cases
from ldp_client.audit.findings import FULL, Audit, Bound, Effort
from ldp_client.audit.fit import fits
from ldp_client.audit.releases import release_cases
from ldp_client.audit.sensitivity import clip_bounds, stated_bounds
from ldp_client.audit.trials import Trial, trials
from ldp_client.errors import AuditError
from ldp_client.privacy.noise import ByteSource, SystemSource


def audit(
    engine: Engine = INSTALLED,
    effort: Effort = FULL,
    tried: Iterable[Trial] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Audit:
    """Run every check on an engine, and every trial of a twin; `progress` is told what begins."""
    started = time.monotonic()
    source: ByteSource = SystemSource()
    progress("attack on the low bits")
    attacked = tuple(attacks(engine, effort, source))
    progress("goodness of fit")
    fitted = tuple(fits(engine, effort, source))
    progress("exact enumeration")
    bounds: list[Bound] = [*clip_bounds(engine), *stated_bounds(engine), *enumerations(engine, effort)]
    progress("lower bounds on epsilon, mechanisms")
    bounds += [measure(case) for case in mechanism_cases(engine, effort, source)]
    progress("lower bounds on epsilon, whole records")
    bounds += [measure(case) for case in release_cases(engine, effort, source)]
    progress("twins with a bug")
    caught = tuple(trial.run(effort, source) for trial in (trials() if tried is None else tried))
    seconds = round(time.monotonic() - started, 1)
    return Audit(effort, tuple(bounds), fitted, attacked, caught, seconds, _versions())


def require_sound(found: Audit) -> None:
    """Return if everything held.

    Raises:
        AuditError: what did not.
    """
    if found.failures:
        raise AuditError(
            f"{len(found.failures)} of the audit's checks failed: {'; '.join(found.failures)}. "
            "Release nothing with this installation; send the report to whoever maintains it"
        )


def _versions() -> dict[str, str]:
    return {
        "ldp-glow": version("ldp-glow"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "cryptography": version("cryptography"),
        "machine": f"{platform.system()} {platform.machine()}",
    }
