"""A command that takes MODULE:DAG, and arguments of a function that makes the DAG."""

from collections.abc import Callable
from itertools import zip_longest

import click

from handoff_actors.cli.output.records import ON_STDERR, REPORT_SUFFIXES
from handoff_actors.cli.targets.completion import ArgumentType, TargetType


class TargetCommand(click.Command):
    """A command that takes MODULE:DAG and arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Command. `--report` takes the next word only if that names a file for a report."""
        args = [
            f"{word}={ON_STDERR}" if word == "--report" and not behind.endswith(REPORT_SUFFIXES) else word
            for word, behind in zip_longest(args, args[1:], fillvalue="")
        ]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = "Arguments of a function that makes a DAG are given as NAME=VALUE, behind it."
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from error


def target_arguments(command: Callable[..., None]) -> Callable[..., None]:
    """Add MODULE:DAG and arguments for a function that makes the DAG."""
    target = click.argument("target", metavar="MODULE:DAG", type=TargetType())
    return target(
        click.argument("arguments", metavar="[ARGUMENT]...", nargs=-1, type=ArgumentType())(command)
    )
