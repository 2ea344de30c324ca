"""`ldp-client diagnose`: the shared classifier on this hospital's own X-rays; no network, nothing is kept."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import HERE, Format, Output, State, say, show
from ldp_client.cli.dataset import printable
from ldp_client.config import AgentConfig, read_toml
from ldp_client.diagnose import Diagnosed, Scored
from ldp_client.diagnose import diagnose as diagnose_files
from ldp_client.diagnosis.bundle import ClassifierBundle, load
from ldp_client.errors import ConfigurationError, FormatError, QuarantinedError
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle, open_shipped
from ldp_client.wire.canonical import parse
from ldp_client.wire.envelope import OneKey, signer_of
from ldp_client.wire.exchange import CentreCard
from ldp_client.wire.signing import in_groups

app = typer.Typer()
DIGITS = 4


@app.command()
def diagnose(
    classifier: Annotated[Path, typer.Option(help="The classifier's bundle, as the centre exported it.")],
    files: Annotated[list[Path] | None, typer.Argument(help="DICOM, PNG or JPEG files.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help='The encoder\'s bundle, or "shipped:NAME"; if not given, the one of agent.toml, or the shipped one '
            "that the classifier names."
        ),
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card first.")] = False,
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """Score X-rays with the shared classifier: a score for each label, larger is more like it.

    A score is no probability; where the classifier came with calibration, the probability stands beside it.

    Nothing leaves this machine and nothing is kept. Research use, not a medical device. Files that cannot be read as
    X-rays are listed with the reason, and the command then ends with code 8. It does not see whether a picture shows a
    chest: what is none gets scores too, unless a DICOM file says what it is.
    """
    if not files and not card:
        raise ConfigurationError("name at least one file to score, or ask for the model card with --card")
    bundle = load(classifier)
    whose = _whose(bundle, state)
    if card:
        # Programs read standard output.
        for line in [*bundle.card.lines(), whose]:
            typer.echo(line, err=output is Format.JSON)
    if not files:
        return
    found = diagnose_files(files, bundle, _encoder(bundle, encoder, state), _progress)
    _print(found, bundle, output)
    if output is Format.TABLE and bundle.card.calibration is not None:
        say(bundle.card.calibration.lines())
    if output is Format.TABLE and not card:
        say(f"{whose}; research use, not a medical device (--card says more)")
    if found.set_aside:
        raise typer.Exit(QuarantinedError.exit_code)


def _print(found: Diagnosed, bundle: ClassifierBundle, output: Format) -> None:
    if output is Format.JSON:
        report = {
            "classifier": bundle.card.name,
            "digest": bundle.digest,
            "scored": [_for_programs(one) for one in found.scored],
            "set_aside": [{"file": one.file, "reason": one.reason} for one in found.set_aside],
        }
        show([report], output)
        return
    show(
        [
            {
                "X-ray": printable(one.file),  # no label has a capital letter, so none can take its place
                **{name: f"{score:+.{DIGITS}f}" for name, score in one.scores.items()},
                **{
                    f"P({of.positive}, not {of.negative})": f"{of.value:.2f} ({of.low:.2f}-{of.high:.2f})"
                    for of in one.probabilities
                },
            }
            for one in found.scored
        ],
        output,
    )
    if found.set_aside:
        rows = [{"X-ray": printable(one.file), "reason": one.reason, "found": one.way_out} for one in found.set_aside]
        show(rows, output, title="set aside")


def _for_programs(one: Scored) -> dict[str, object]:
    shown: dict[str, object] = {"file": one.file, "scores": one.scores}
    if one.probabilities:
        shown["probabilities"] = [dataclasses.asdict(of) for of in one.probabilities]
    return shown


def _whose(bundle: ClassifierBundle, state: Path) -> str:
    """One sentence on who signed the bundle.

    Raises:
        ClassifierError: this site has pinned a centre, and the bundle is not that one's.
        ConfigurationError: the pinned card cannot be read, or the site's folder is not there.
    """
    if not state.is_dir():
        # Without this a slip in the folder's name would leave the signature unchecked.
        raise ConfigurationError(
            f"--state {state} is no folder, so nothing says which centre this site trusts; name the site's folder, or "
            "leave --state out to read a classifier whose centre is not pinned here"
        )
    path = state / "centre.json"
    try:
        centre = parse(CentreCard, path.read_bytes())
    except FileNotFoundError:
        if bundle.signature is None:
            return "the bundle is not signed, and no centre is pinned here"
        return (
            "no centre is pinned here, so the signature was not checked; "
            f"it names the key {in_groups(signer_of(bundle.signature))}"
        )
    except (OSError, FormatError) as error:
        raise ConfigurationError(f"{path} is not the centre's card as the centre wrote it; pin it again") from error
    bundle.check_signature(OneKey("the centre", bytes.fromhex(centre.signing_key)))
    return f"signed by {centre.name}"


def _encoder(bundle: ClassifierBundle, named: str | None, state: Path) -> Encoder:
    if named is not None:
        return open_bundle(named, Path())
    if (state / "agent.toml").exists():
        return open_bundle(read_toml(state / "agent.toml", AgentConfig).encoder.bundle, state)
    return open_shipped(bundle.card.encoder)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total > 1:
        typer.echo(f"\r{done} of {total}", err=True, nl=done == total)
