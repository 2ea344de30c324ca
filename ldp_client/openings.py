"""The cap per patient, proved: `python -m ldp_client.openings EXPORT OPENINGS`, for the hospital's own auditor.

An export says only that every charge was some patient's. The openings, which stay at the hospital, say whose, by
pseudonym: each charge's commitment is recomputed from them, so they cannot say anything else, and then each patient's
charges are counted. With neither torch nor flwr nor a database.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ldp_client.errors import ConfigurationError, FormatError, LdpError, VerificationError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.verify import entry_bodies, verify_export
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.chain import Charge, LedgerEntry, Query, parse_entry, subject_commitment, subjects_commitment

_LINE = re.compile(r'\{"charge":([1-9][0-9]{0,18}),"salt":"([0-9a-f]{64})","unit":"([0-9a-f]{64})"\}\n')
_UNITS = r'\[((?:"[0-9a-f]{64}"(?:,"[0-9a-f]{64}")*)?)\]'
_QUERY_LINE = re.compile(r'\{"query":([1-9][0-9]{0,18}),"salt":"([0-9a-f]{64})","units":' + _UNITS + r"\}\n")
# A query's line holds its whole set: a million units.
_MAX_LINE = 1 << 27


@dataclass(frozen=True)
class Proved:
    """What held: nobody was charged more often than the caps, nor more than the bound."""

    charges: int
    """Entries that charge: of one unit for a record, or of a whole set for an evaluation."""
    units: int
    largest: PrivacyLoss
    bound: PrivacyLoss
    budget: PrivacyLoss

    def lines(self) -> list[str]:
        """The report."""
        return [
            f"{self.charges} charges of {self.units} units opened: every commitment holds, no unit is past a cap",
            f"the most that one unit spent is epsilon {self.largest}, the bound {self.bound}, the budget {self.budget}",
        ]


def check_openings(export: Path, openings: Path) -> Proved:
    """Verify a site's export, and every charge in it against its opening.

    Raises:
        VerificationError: the export does not hold, an opening is missing, left over or another's, or a unit is past
            a campaign's cap; the text names the entry.
        ConfigurationError: a file that cannot be read.
    """
    verified = verify_export(export)
    if verified.side != "site":
        raise VerificationError("openings belong to a site's export; this one is the centre's")
    (history,) = verified.histories
    opened = dict(_openings(openings))
    counts: Counter[tuple[str, str]] = Counter()
    spent: Counter[str] = Counter()
    charges = 0
    for sequence, body in entry_bodies(export):
        entry = parse_entry(body)
        if not isinstance(entry, Charge | Query):
            continue
        charges += 1
        opening = opened.pop(sequence, None)
        if opening is None:
            raise VerificationError(f"entry {sequence}: this charge has no opening; ask the site for all of them")
        if not _holds(opening, entry):
            raise VerificationError(f"entry {sequence}: the opening is not what this charge has committed to")
        campaign = history.campaigns[entry.campaign]
        # A set is asked once for each evaluation, so a unit pays for it once.
        cap = campaign.cap if isinstance(campaign, Campaign) else 1
        for unit in opening.units:
            spent[unit] += entry.micro_epsilon
            counts[entry.campaign, unit] += 1
            if counts[entry.campaign, unit] > cap:
                raise VerificationError(
                    f"entry {sequence}: a unit is charged more often for campaign {campaign.name} than its cap of "
                    f"{cap} allows"
                )
    if opened:
        raise VerificationError(f"entry {min(opened)}: there is an opening of it, but no such charge in the export")
    largest = PrivacyLoss(max(spent.values(), default=0))
    return Proved(charges, len(spent), largest, history.bound, history.budget)


@dataclass(frozen=True)
class _Opening:
    salt: str
    units: tuple[str, ...]
    of_a_set: bool


def _holds(opening: _Opening, entry: LedgerEntry) -> bool:
    units, salt = [bytes.fromhex(unit) for unit in opening.units], bytes.fromhex(opening.salt)
    if isinstance(entry, Query):
        # Sorted and each once, as the commitment has them: or a unit could be counted as two.
        return (
            opening.of_a_set
            and list(opening.units) == sorted(set(opening.units))
            and subjects_commitment(units, salt) == entry.subjects
        )
    return isinstance(entry, Charge) and not opening.of_a_set and subject_commitment(units[0], salt) == entry.subject


def _openings(path: Path) -> Iterator[tuple[int, _Opening]]:
    before = 0
    try:
        with path.open(encoding="ascii", newline="", errors="replace") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), 1):
                of_one, of_a_set = _LINE.fullmatch(line), _QUERY_LINE.fullmatch(line)
                found = of_one or of_a_set
                if found is None or int(found[1]) <= before:
                    raise FormatError(f"line {number} of the openings is damaged; ask the site for them again")
                before = int(found[1])
                units = tuple(re.findall(r"[0-9a-f]{64}", found[3]))
                yield before, _Opening(found[2], units, of_a_set is not None)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); name the file of the openings") from error


def main(arguments: list[str]) -> int:
    """Check an export and its openings; exit 6 at the first fault."""
    if len(arguments) != 2:
        print("usage: python -m ldp_client.openings EXPORT OPENINGS")
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        print("\n".join(check_openings(Path(arguments[0]), Path(arguments[1])).lines()))
    except LdpError as error:
        print(f"{arguments[1]}: NOT proved: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
