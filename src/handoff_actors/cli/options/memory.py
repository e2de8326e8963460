"""Options for the memory and the disk of a node."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.core.node.limits import MEMORY_FACTOR

_store_limit_option = click.option(
    "--store-limit",
    "store_limit_mb",
    type=click.FloatRange(min=0),
    envvar="HANDOFF_STORE_LIMIT",
    metavar="MB",
    help="Spill values to disk beyond this much memory. [default: half of the free memory that the store may use at the start]",
)
_spill_dir_option = click.option(
    "--spill-dir",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    envvar="HANDOFF_SPILL_DIR",
    help="Place of the node's directory for spilled values. [default: the directory for temporary files]",
)
_store_dir_option = click.option(
    "--store-dir",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    envvar="HANDOFF_STORE_DIR",
    help="Place of the node's directory for values. [default: in memory, shared with the node's workers]",
)
_memory_factor_option = click.option(
    "--memory-factor",
    type=click.FloatRange(min=0),
    envvar="HANDOFF_MEMORY_FACTOR",
    default=MEMORY_FACTOR,
    show_default=True,
    help="Kill a function that uses more than this multiple of its claimed memory (0 disables).",
)


def with_memory_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command gets them as `memory_options`."""

    @_store_limit_option
    @_spill_dir_option
    @_store_dir_option
    @_memory_factor_option
    @wraps(command)
    def with_options(
        *args: Any,
        store_limit_mb: float | None,
        spill_dir: Path | None,
        store_dir: Path | None,
        memory_factor: float,
        **options: Any,
    ) -> None:
        try:
            memory_options = MemoryOptions(store_limit_mb, spill_dir, memory_factor, store_dir)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        command(*args, memory_options=memory_options, **options)

    return with_options
