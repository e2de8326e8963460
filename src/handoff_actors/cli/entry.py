"""The entry of the command line: says the version, and refuses commands that can't work on this system, without click."""

import sys
from collections.abc import Sequence
from typing import Any

from handoff_actors.cli.output.streams import complaining_about_output
from handoff_actors.cli.platforms import refusal, runs_here
from handoff_actors.standard_descriptors import hold_standard_descriptors
from handoff_actors.wire.versions import VERSION


def main(args: Sequence[str] | None = None, **options: Any) -> None:
    """Run the command that `args` name; None: the arguments of this process. Options are those of click's `Command.main`."""
    hold_standard_descriptors()
    with complaining_about_output():
        _run(sys.argv[1:] if args is None else list(args), options)


def _run(words: list[str], options: dict[str, Any]) -> None:
    if words == ["--version"]:
        # Where a descriptor is closed when Python starts, there is no stream.
        if sys.stdout is not None:
            sys.stdout.write(f"handoff {VERSION}\n")
        return
    if words and not words[0].startswith("-") and not runs_here(words[0]):
        sys.exit(f"Error: {refusal()}")
    from handoff_actors.cli.group import main as group  # noqa: PLC0415 - click takes as long to import as all else

    group.main(words, **options)
