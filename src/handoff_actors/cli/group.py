"""All commands under one name."""

from importlib import import_module
from typing import Any

import click

from handoff_actors.cli.platforms import runs_here
from handoff_actors.process.first_signals import INTERRUPTED
from handoff_actors.wire.versions import VERSION

#: Each is a function of this name in a module of this name.
COMMANDS = (
    *("node", "nodes", "top", "ping", "run", "render"),
    *("up", "down", "logs", "alloc", "manifest", "keygen", "demo"),
)


class LazyGroup(click.Group):
    """Imports a command once it is asked for: a daemon should not wait for modules that draw tables.

    With --json, errors of every kind are JSON, too.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """See click.Group."""
        return [command for command in COMMANDS if runs_here(command)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """See click.Group."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"handoff_actors.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Command."""
        ctx.meta[__name__] = "--json" in args[: args.index("--")] if "--" in args else "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Command."""
        is_json = ctx.meta[__name__]
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if is_json:
                _print_json(error)
            raise
        except KeyboardInterrupt as interrupt:
            if is_json:
                _print_json(interrupt)
            click.echo("cancelled", err=True)
            ctx.exit(INTERRUPTED)


def _print_json(error: click.ClickException | KeyboardInterrupt) -> None:
    # Most commands end well.
    from handoff_actors.cli.output.json_errors import error_json  # noqa: PLC0415
    from handoff_actors.cli.output.streams import result_stream  # noqa: PLC0415

    click.echo(error_json(error), file=result_stream())


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="handoff", message="%(prog)s %(version)s")
def main() -> None:
    """Spread a graph of functions over the machines you have."""
