"""The entry of the command line: says the version, and refuses commands that can't work on this system, without click."""

import sys
from collections.abc import Sequence
from typing import Any

from handoff_actors.cli.output.streams import complaining_about_output
from handoff_actors.cli.platforms import refusal, runs_here
from handoff_actors.process.first_signals import INTERRUPTED, end_at_first_signal
from handoff_actors.process.standard_descriptors import hold_standard_descriptors


def main(args: Sequence[str] | None = None, **options: Any) -> None:
    """Run the command that `args` name; None: the arguments of this process. Options are those of click's `Command.main`."""
    if args is None and sys.argv[1:2] == ["node"]:
        # All that a node needs takes a while to import.
        end_at_first_signal()
    hold_standard_descriptors()
    with complaining_about_output():
        _run(sys.argv[1:] if args is None else list(args), options)


def _run(words: list[str], options: dict[str, Any]) -> None:
    if words == ["--version"]:
        from handoff_actors.wire.versions import VERSION  # noqa: PLC0415 - its imports would delay the handling of signals

        # Where a descriptor is closed when Python starts, there is no stream.
        if sys.stdout is not None:
            sys.stdout.write(f"handoff {VERSION}\n")
        return
    if words and not words[0].startswith("-") and not runs_here(words[0]):
        sys.exit(f"Error: {refusal()}")
    try:
        from handoff_actors.cli.group import main as group  # noqa: PLC0415 - click takes as long to import as all else
    except KeyboardInterrupt:
        # The group says so of its commands.
        sys.exit(INTERRUPTED)
    group.main(words, **options)
