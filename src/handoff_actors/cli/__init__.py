"""The command line: `handoff ...`."""

from handoff_actors.cli.group import main

__all__ = ["main"]
