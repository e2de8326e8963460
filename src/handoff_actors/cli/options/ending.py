"""Options for the end of a node."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from msgspec import Struct

from handoff_actors.actors.node.host.containers import usual_drain_s
from handoff_actors.cli.options.parameters import DURATION, Seconds

_drain_option = click.option(
    "--drain",
    "drain_s",
    type=Seconds(min=0),
    default=usual_drain_s,
    show_default="30, 25 on Kubernetes and in Slurm, 8 as the main process of another container",
    metavar="SECONDS",
    help="On shutdown, wait this long for running functions.",
)
_idle_option = click.option(
    "--idle",
    "idle_s",
    type=DURATION,
    metavar="SECONDS",
    help="End once the node has served no run for so long; 90s, 5m or 1h will do, too. [default: never]",
)
_lifetime_option = click.option(
    "--lifetime",
    "lifetime_s",
    type=DURATION,
    metavar="SECONDS",
    help="End after so long at the latest: the node drains in time, and gets no function that takes longer. [default: none; in Slurm the time limit of the job]",
)


class EndingOptions(Struct, frozen=True):
    """The limits on the life of a node, and the time that its end may take."""

    drain_s: float
    idle_s: float | None
    lifetime_s: float | None


def with_ending_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command gets them as `ending`."""

    @_drain_option
    @_idle_option
    @_lifetime_option
    @wraps(command)
    def with_options(
        *args: Any, drain_s: float, idle_s: float | None, lifetime_s: float | None, **options: Any
    ) -> None:
        command(*args, ending=EndingOptions(drain_s, idle_s, lifetime_s), **options)

    return with_options
