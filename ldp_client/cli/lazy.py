"""A command group that imports a noun's module when the noun is asked for: `ledger verify` never loads torch."""

from __future__ import annotations

import importlib
from typing import ClassVar

import click
import typer.core
import typer.main


class LazyGroup(typer.core.TyperGroup):
    """Subclasses name the package and its nouns with their one-line help."""

    package: ClassVar[str]
    nouns: ClassVar[dict[str, str]]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.nouns)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.nouns:
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.help = self.nouns[cmd_name]
        return command

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Typer's own would load every noun to ask for its help, and torch with them.
        click.Group.format_help(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.nouns.items()))
