"""Options for finding a cluster."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from msgspec import Struct

from handoff_actors.cli.options.parameters import ADDRESS, Seconds

_join_wait_option = click.option(
    "--join-wait",
    "join_wait_s",
    metavar="SECONDS",
    type=Seconds(min=0),
    default=0,
    show_default=True,
    envvar="HANDOFF_JOIN_WAIT",
    show_envvar=True,
    help="Wait this long for one of the members to join to be up.",
)
_join_file_option = click.option(
    "--join-file",
    metavar="DIR",
    type=click.Path(),
    envvar="HANDOFF_JOIN_FILE",
    show_envvar=True,
    help="Directory that all machines share, in which members find one another, with the cluster's key. "
    "It is made if it is missing.",
)


class JoinOptions(Struct, frozen=True):
    """The ways to find the cluster."""

    #: Addresses of members.
    seeds: tuple[str, ...] = ()
    #: A directory in which members have files.
    file: str | None = None
    #: Wait this long for a member that is up.
    wait_s: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.seeds or self.file)


def join_options(
    *,
    seeds_help: str,
    required: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options for finding a cluster; the command gets them as `join`."""
    seeds_option = click.option(
        "--join",
        "seeds",
        metavar="ADDRESS",
        type=ADDRESS,
        multiple=True,
        envvar="HANDOFF_SEEDS",
        show_envvar=True,
        help=seeds_help,
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @seeds_option
        @_join_file_option
        @_join_wait_option
        @wraps(command)
        def with_join(
            *args: Any, seeds: tuple[str, ...], join_file: str | None, join_wait_s: float, **options: Any
        ) -> None:
            join = JoinOptions(seeds, join_file, join_wait_s)
            if required and not join:
                raise click.UsageError(
                    "name a member of the cluster with --join ADDRESS (HANDOFF_SEEDS), or the directory of its members with "
                    "--join-file DIR (HANDOFF_JOIN_FILE)"
                )
            command(*args, join=join, **options)

        return with_join

    return decorate
