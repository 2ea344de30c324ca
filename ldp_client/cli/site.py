"""`ldp-client site`: create a site, pin its centre, introduce it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import HERE, Format, Output, State, say, show
from ldp_client.cli.typed_key import public_key
from ldp_client.errors import ConfigurationError, FormatError
from ldp_client.new_file import appearing_whole
from ldp_client.permissions import faults, find_accounts, find_places, set_permissions
from ldp_client.rotation import rotate_key
from ldp_client.site import create_site, enrolment, open_site
from ldp_client.wire.canonical import parse
from ldp_client.wire.exchange import CentreCard
from ldp_client.wire.signing import SigningKey, fingerprint, read_secret

app = typer.Typer(no_args_is_help=True)


@app.command()
def init(
    site: Annotated[str, typer.Option("--id", help="Short lower-case id, as the centre will know the site.")],
    name: Annotated[str, typer.Option(help="The hospital's name.")],
    officer_key: Annotated[list[str], typer.Option(help="An officer's public key, 64 hex digits. May be repeated.")],
    state: State = HERE,
) -> None:
    """Make keys, an empty ledger, a spool and an agent.toml to edit."""
    state.mkdir(parents=True, exist_ok=True)
    made = create_site(state, site, name, tuple(public_key(key) for key in officer_key))
    made.create_spool()
    made.close()
    say(
        [
            f"site {site} created in {state}",
            f"next: edit {state / 'agent.toml'}, then `ldp-client site pin centre.json --fingerprint ...`",
        ]
    )


@app.command()
def pin(
    card: Annotated[Path, typer.Argument(help="The centre's centre.json.")],
    fingerprint_shown: Annotated[str, typer.Option("--fingerprint", help="What the centre read out by telephone.")],
    state: State = HERE,
) -> None:
    """Trust one centre, whose fingerprint somebody there read out to you by telephone."""
    if not (state / "agent.toml").exists():
        raise ConfigurationError(
            f"there is no site in {state}; run `ldp-client site init` first, or name its folder with --state"
        )
    try:
        body = card.read_bytes()
        centre = parse(CentreCard, body)
    except OSError as error:
        raise ConfigurationError(f"{card} cannot be read ({error.strerror}); name the centre's centre.json") from error
    except FormatError as error:
        raise ConfigurationError(f"{card} is not a centre's card: {error}") from error
    found = fingerprint(bytes.fromhex(centre.signing_key))
    if fingerprint_shown.strip().lower().replace("-", "").replace(" ", "") != found.replace("-", ""):
        raise ConfigurationError(
            f"the card's fingerprint is {found}, not {fingerprint_shown}; do not pin it, ask the centre for its card"
        )
    target = state / "centre.json"
    if target.exists() and target.read_bytes() != body:
        raise ConfigurationError(f"another centre is pinned already in {target}; a site has one centre")
    target.write_bytes(body)
    say(f"pinned {centre.name}, fingerprint {found}")


@app.command()
def enrol(
    node_key: Annotated[Path, typer.Option(help="The Flower node's public key (OpenSSH), from `ldp-client node key`.")],
    out: Annotated[Path, typer.Option(help="Where to write the signed enrolment.")],
    state: State = HERE,
) -> None:
    """Write the signed introduction that the centre's administrator enters with `ldp-server site enrol`."""
    site = open_site(state)
    try:
        introduction = enrolment(site, node_key.read_text(errors="replace").strip())
        with appearing_whole(out) as part:
            part.write_bytes(introduction)
        say(f"wrote {out}; site key fingerprint {fingerprint(site.signer.public_key)}")
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be used ({error.strerror})") from error
    finally:
        site.close()


@app.command("rotate-key")
def rotate_site_key(
    officer_key: Annotated[Path, typer.Option(help="The officer's private key.")],
    out: Annotated[Path, typer.Option(help="A new file, for the centre.")],
    lost: Annotated[
        bool, typer.Option("--lost", help="The old key is gone or stolen: the officer signs without it.")
    ] = False,
    state: State = HERE,
) -> None:
    """Give the site a new signing key. Stop the agent first; nothing leaves until the centre has entered the file."""
    # Made before the key is replaced: what comes after that cannot fail for a mistyped folder.
    with appearing_whole(out) as part:
        document, new = rotate_key(state, SigningKey(read_secret(officer_key)), lost=lost)
        part.write_bytes(document)
    say(
        [
            f"the site signs with a new key, fingerprint {fingerprint(new)}; the old one is deleted",
            f"hand {out} to the centre and read the fingerprint out; it enters it with `ldp-server site rotate-key`",
        ]
    )


@app.command()
def rotation(out: Annotated[Path, typer.Option(help="A new file, for the centre.")], state: State = HERE) -> None:
    """Write once more what the centre is handed about the site's present key."""
    site = open_site(state)
    try:
        document = site.ledger.rotation()
    finally:
        site.close()
    if document is None:
        raise ConfigurationError("the site still signs with its first key, which the enrolment has named")
    with appearing_whole(out) as part:
        part.write_bytes(document)
    say(f"wrote {out}; site key fingerprint {fingerprint(site.signer.public_key)}")


@app.command()
def keys(state: State = HERE, output: Output = Format.TABLE) -> None:
    """The public keys in force: the site's, and its officers'."""
    site = open_site(state)
    try:
        in_force = site.ledger.keys()
    finally:
        site.close()
    named = [("site", in_force.signing), *(("officer", key) for key in in_force.officers)]
    show([{"whose": who, "key": key, "fingerprint": fingerprint(bytes.fromhex(key))} for who, key in named], output)


@app.command()
def permissions(
    node_folder: Annotated[Path, typer.Option(help="The Flower node's folder, as given to `ldp-client node key`.")],
    agent_user: Annotated[str, typer.Option(help="Who runs the agent.")] = "ldp-agent",
    courier_user: Annotated[str, typer.Option(help="Who runs the courier.")] = "ldp-courier",
    node_user: Annotated[str, typer.Option(help="Who runs the node.")] = "ldp-node",
    check: Annotated[bool, typer.Option("--check", help="Change nothing, only try.")] = False,
    state: State = HERE,
) -> None:
    """As root: give every file to its user, then try as each of the three what they can touch. Exit 2 on a fault."""
    accounts = find_accounts(agent_user, courier_user, node_user)
    places = find_places(state, node_folder)
    if not check:
        set_permissions(places, accounts)
    found = faults(places, accounts)
    if found:
        way_out = "run the command as root without --check" if check else "see docs/install.md, Permissions"
        raise ConfigurationError("; ".join(found) + f". Way out: {way_out}")
    say(f"agent {agent_user}, courier {courier_user} and node {node_user} can touch what they need and nothing else")
