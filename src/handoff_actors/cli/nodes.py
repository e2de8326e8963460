"""`handoff nodes`: who is in a cluster, and how it stands."""

import json
import sys
from collections.abc import Sequence

import click
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from handoff_actors.actors.station import Station
from handoff_actors.cli.failures import one_line_errors
from handoff_actors.cli.parameters import join_option, json_option, key_option
from handoff_actors.cli.resources import amounts
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.wire.messages import Advert

COLUMNS = ("name", "address", "capabilities", "spare", "running", "queued", "workers", "stored bytes")


@click.command()
@join_option(required=True, help="Any member of the cluster.")
@key_option
@json_option
def nodes(seeds: tuple[str, ...], key: ClusterKey | None, as_json: bool) -> None:
    """Show every member of a cluster: what it offers, what it has to spare, what it does."""
    with one_line_errors():
        adverts, suspects = uvloop.run(_members(seeds, key))
    if as_json:
        click.echo(json.dumps([_fields(advert, suspects) for advert in adverts], indent=2))
    elif sys.stdout.isatty():
        _print_table([_row(advert, suspects) for advert in adverts])
    else:
        click.echo(_aligned([COLUMNS, *(_row(advert, suspects) for advert in adverts)]))


async def _members(seeds: Sequence[str], key: ClusterKey | None) -> tuple[list[Advert], list[str]]:
    station = Station("handoff nodes", key=key)
    try:
        await station.join(seeds)
        return station.members(), station.suspects()
    finally:
        await station.close()


def _fields(advert: Advert, suspects: Sequence[str]) -> dict[str, object]:
    return {
        "name": advert.name,
        "incarnation": advert.incarnation,
        "address": advert.address,
        "capabilities": advert.capabilities,
        "spare": advert.spare,
        "running": advert.running,
        "queued": advert.queued,
        "workers": advert.workers,
        "stored": advert.stored,
        "leaving": advert.leaving,
        "suspect": advert.name in suspects,
        "version": advert.version,
        "python": advert.python,
    }


def _row(advert: Advert, suspects: Sequence[str]) -> tuple[str, ...]:
    leaving = " (leaving)" if advert.leaving else ""
    suspect = " (suspect)" if advert.name in suspects else ""
    return (
        f"{advert.name}{leaving}{suspect}",
        advert.address,
        amounts(advert.capabilities),
        amounts(advert.spare),
        str(advert.running),
        str(advert.queued),
        str(advert.workers),
        str(advert.stored),
    )


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:4] else "right", overflow="fold")
    for row in rows:
        # Names are other people's text: rich must not read markup into them.
        table.add_row(*map(escape, row))
    Console().print(table)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
