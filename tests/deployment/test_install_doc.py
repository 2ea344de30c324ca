"""What the documents tell people to type exists: each command, each option; and the systemd units can be loaded."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import typer.main

from ldp_client.cli.main import app as client
from server.cli.main import app as server

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])
SOURCES = sorted([*ROOT.glob("ldp_client/**/*.py"), *ROOT.glob("server/**/*.py")])
UNITS = sorted((ROOT / "examples" / "systemd").glob("*.service"))
PROGRAMS: dict[str, click.Command] = {
    "ldp-client": typer.main.get_command(client),
    "ldp-server": typer.main.get_command(server),
}
INSTALLED = "/opt/ldp-glow/bin/"


@dataclass(frozen=True)
class Told:
    """A command that a text tells people to type; `whole` if it stands as a line of its own and must be complete."""

    place: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.words)}"


def lines_to_type(path: Path) -> Iterator[Told]:
    """Lines inside fences, with or without a prompt, and code within sentences."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    fences = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for block in fences.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield from _commands(name, re.sub(r"^[#$] ", "", line), whole=True)
    for one, two in re.findall(r"``(.+?)``|`([^`\n]+)`", fences.sub("", text)):
        yield from _commands(name, two or one, whole=False)


def _commands(place: str, text: str, *, whole: bool) -> Iterator[Told]:
    if text.startswith("ln "):
        # Gives the program a second place and does not run it.
        return
    for command in re.findall(r"(?:^|(?<=[\s/`(]))(ldp-(?:client|server)(?: [^`]*)?)(?=$|`)", text):
        words = shlex.split(command.partition("&&")[0], comments=True)
        yield Told(place, tuple(words), whole)


def said_in_messages(path: Path) -> Iterator[Told]:
    """Commands in backquotes within the program's own texts."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for command in re.findall(r"`(ldp-(?:client|server) [^`\n]+)`", text):
        yield Told(name, tuple(shlex.split(command.replace("{", "").replace("}", ""))), whole=False)


def fault(told: Told) -> str | None:
    """Why a command could not be typed so, or None."""
    program, *words = told.words
    command, context = PROGRAMS[program], None
    while isinstance(command, click.Group):
        if not words:
            return "a noun alone does nothing" if told.whole else None
        context = click.Context(command, parent=context)
        found = command.get_command(context, words[0])
        if found is None:
            return f"there is no {words[0]!r}"
        command, words = found, words[1:]
    options = {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    given, free = set(), 0
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, _, value = word.partition("=")
            if name not in options:
                return f"there is no option {name}"
            given.add(options[name])
            if not (options[name].is_flag or value) and not words:
                return f"{name} wants a value"
            if not (options[name].is_flag or value):
                words.pop(0)
        else:
            free += 1
    if free > len(arguments):
        return f"{free} arguments are too many"
    if told.whole:
        missing = [option.opts[0] for option in options.values() if option.required and option not in given]
        if missing or free < sum(argument.required for argument in arguments):
            return f"something that is required is missing: {', '.join(missing) or 'an argument'}"
    return None


def test_each_command_in_the_documents_exists_with_its_options() -> None:
    told = [command for document in DOCUMENTS for command in lines_to_type(document)]
    assert len([command for command in told if command.place == "docs/install.md"]) > 30
    assert len([command for command in told if command.place == "README.md"]) > 10
    assert [f"{command}: {why}" for command in told if (why := fault(command))] == []


def test_each_query_of_a_ledger_and_each_command_about_keys_is_in_a_document() -> None:
    told = {(command.words[0], *command.words[1:3]) for document in DOCUMENTS for command in lines_to_type(document)}
    asked = {
        (program, noun, verb)
        for program in PROGRAMS
        for noun in ("ledger", "budget", "site")
        for verb in _verbs(PROGRAMS[program], noun)
    }
    assert asked - told == set()


def _verbs(program: click.Command, noun: str) -> list[str]:
    assert isinstance(program, click.Group)
    context = click.Context(program)
    group = program.get_command(context, noun)
    assert isinstance(group, click.Group)
    return group.list_commands(context)


def test_each_command_that_a_message_names_exists() -> None:
    told = [command for source in SOURCES for command in said_in_messages(source)]
    assert len(told) > 10
    assert [f"{command}: {why}" for command in told if (why := fault(command))] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ldp-client init", "there is no 'init'"),
        ("ldp-client site init --id a --name b --officer HEX", "there is no option --officer"),
        ("ldp-client site init --id a --name b", "something that is required is missing: --officer-key"),
        ("ldp-client campaign show", "something that is required is missing: an argument"),
        ("ldp-client campaign show a b", "2 arguments are too many"),
        ("ldp-client campaign", "a noun alone does nothing"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, why: str) -> None:
    """The broken twins of the two tests above."""
    (told,) = _commands("here", line, whole=True)
    assert fault(told) == why


def test_the_document_copies_units_that_exist() -> None:
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    named = set(re.findall(r"systemctl enable --now (.+)", text)[0].split())
    assert {path.stem for path in UNITS} == named == {"ldp-agent", "ldp-courier", "ldp-node"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists_as_its_own_user(unit: Path) -> None:
    settings = [line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line and line[0] not in "#["]
    values = dict(settings)
    assert values["User"] == values["Group"] == unit.stem
    for key in ("ExecStart", "ExecStartPre"):
        if key in values:
            (told,) = _commands(unit.name, values[key].removeprefix("+"), whole=True)
            assert fault(told) is None
    assert values["ProtectSystem"] == "strict"
    assert values["NoNewPrivileges"] == "yes"
    assert values["CapabilityBoundingSet"] == ""
    if unit.stem == "ldp-agent":
        assert (values["PrivateNetwork"], values["RestrictAddressFamilies"]) == ("yes", "none")


def test_systemd_can_load_the_units(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    for unit in UNITS:
        # systemd also looks whether what it is to start is there: here it is beside this Python.
        text = unit.read_text().replace(INSTALLED, f"{Path(sys.executable).parent}/")
        (tmp_path / unit.name).write_text(text)
        assert [line for line in text.splitlines() if line and not re.match(r"#|\[\w+\]$|\w+=", line)] == []
    if verify is not None:
        paths = [str(tmp_path / unit.name) for unit in UNITS]
        done = subprocess.run([verify, "verify", "--man=no", *paths], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
