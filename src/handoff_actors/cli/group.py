"""All commands under one name."""

from importlib import import_module

import click

from handoff_actors.cli.platforms import runs_here
from handoff_actors.standard_descriptors import hold_standard_descriptors
from handoff_actors.wire.versions import VERSION

#: Each is a function of this name in a module of this name.
COMMANDS = ("node", "nodes", "top", "run", "render", "keygen", "demo")


class LazyGroup(click.Group):
    """Imports a command once it is asked for: a daemon should not wait for modules that draw tables."""

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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="handoff", message="%(prog)s %(version)s")
def main() -> None:
    """Spread a graph of functions over the machines you have."""
    hold_standard_descriptors()
