"""`ldp-server site`: who takes part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import Format, Output, say, show
from ldp_client.errors import ConfigurationError
from ldp_client.wire.signing import fingerprint
from server.centre import enrol as enrol_site
from server.centre import replace_node, resume_site, revoke_key, rotate_key, suspend_site
from server.cli.opened import HERE, State, opened
from server.store import sites

app = typer.Typer(no_args_is_help=True)


@app.command()
def enrol(
    file: Annotated[Path, typer.Argument(help="The site's signed enrolment, received through a channel you trust.")],
    state: State = HERE,
) -> None:
    """Take a site in. Compare the fingerprint by telephone; `serve` lets its node connect."""
    with opened(state) as centre:
        site = enrol_site(centre, _read(file))
        say(f"enrolled {site.site} ({site.name}), key fingerprint {fingerprint(site.signing_key)}")


@app.command("list")
def list_sites(state: State = HERE, output: Output = Format.TABLE) -> None:
    """Every site, where its ledger stands here, and its key's fingerprint."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        show(
            [
                {
                    "site": site.site,
                    "name": site.name,
                    "entries": site.sequence,
                    "suspended": "yes" if site.suspended else "no",
                    "key": "revoked" if site.revoked else "in force",
                    "fingerprint": fingerprint(site.signing_key),
                }
                for site in sites.every(connection)
            ],
            output,
        )


@app.command()
def suspend(site: Annotated[str, typer.Argument(help="The site's id.")], state: State = HERE) -> None:
    """Stop talking to a site until a person has looked."""
    with opened(state) as centre:
        suspend_site(centre, site)
        say(f"suspended {site}")


@app.command()
def resume(site: Annotated[str, typer.Argument(help="The site's id.")], state: State = HERE) -> None:
    """Talk to a suspended site again, after a person has looked."""
    with opened(state) as centre:
        resume_site(centre, site)
        say(f"resumed {site}")


@app.command("replace-node")
def replace_site_node(
    file: Annotated[Path, typer.Argument(help="A new enrolment of the same site, with its new node's key.")],
    state: State = HERE,
) -> None:
    """Let a site in by a new Flower node; the old node's key opens nothing any more. Its ledger goes on as it was."""
    with opened(state) as centre:
        site = replace_node(centre, _read(file))
        say(f"{site.site} has another node now; `serve` lets it connect")


@app.command("rotate-key")
def rotate_site_key(
    file: Annotated[Path, typer.Argument(help="What `ldp-client site rotate-key` wrote, from the site.")],
    state: State = HERE,
) -> None:
    """Believe a site's new signing key, which an officer of the site has signed, and its old one no more."""
    with opened(state) as centre:
        site = rotate_key(centre, _read(file))
        say(
            [
                f"{site.site} signs with another key now, fingerprint {fingerprint(site.signing_key)}",
                "compare it by telephone; if it is not the site's, `ldp-server site suspend` and tell the officer",
            ]
        )


@app.command("revoke-key")
def revoke_site_key(site: Annotated[str, typer.Argument(help="The site's id.")], state: State = HERE) -> None:
    """Believe nothing any more that a site's signing key signs, until the site hands over its rotation to another."""
    with opened(state) as centre:
        known = revoke_key(centre, site)
        say(f"the key {fingerprint(known.signing_key)} of {known.site} is revoked; what was committed before stays")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}); ask the site for it again") from error
