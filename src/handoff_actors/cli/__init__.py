"""The command line: `handoff ...`."""

from handoff_actors.cli.entry import main

__all__ = ["main"]
