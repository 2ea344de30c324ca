"""`ldp-server train`: a classifier from a campaign's records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import say
from ldp_client.errors import ConfigurationError
from ldp_client.wire.canonical import canonical_bytes
from server.cli.opened import HERE, State, opened, stored
from server.cli.pupils import (
    ESTIMATED,
    CapOption,
    EncoderOption,
    HeadOption,
    KeyOption,
    PublicOption,
    Pupil,
    SharesOption,
    SplitOption,
    StudentOption,
)

app = typer.Typer()


@app.command()
def learn(
    which: Annotated[str, typer.Argument(help="The campaign's name or id.")],
    out: Annotated[Path, typer.Option(help="Where to write the classifier.")],
    head: HeadOption = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    key: KeyOption = "",
    split: SplitOption = "",
    public: PublicOption = 0,
    public_shares: SharesOption = ESTIMATED,
    cap_sites: CapOption = False,
    state: State = HERE,
) -> None:
    """Learn a classifier from a campaign's records; post-processing, which costs no epsilon.

    With --head and --student, public X-rays without labels weigh it and teach it further.
    """
    pupil = Pupil(head, student, encoder, key, split, public, cap_sites, public_shares)
    with opened(state) as centre:
        campaign = centre.find_campaign(which)
        payloads, sites = stored(centre, campaign)
    learnt = pupil.learn(campaign, payloads, sites)
    trained = learnt.trained
    try:
        out.write_bytes(canonical_bytes(trained.classifier))
    except OSError as error:
        raise ConfigurationError(
            f"{out} cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from error
    say(
        [
            f"learnt from {trained.classifier.records} records; the noise alone moves each coordinate of their mean by "
            f"{trained.noise_error:.4f} (one standard deviation); wrote {out}",
            *learnt.words,
        ]
    )
