"""`handoff ping`: one node's sign of life, for probes."""

import asyncio

import click

from handoff_actors.actors.member import open_zeromq
from handoff_actors.actors.ping import Pong, ping as ask
from handoff_actors.cli.options.parameters import ADDRESS, Seconds, credentials_options
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.options import json_option
from handoff_actors.escaping import escape_name
from handoff_actors.transport.credentials import Credentials

#: Kubernetes gives a probe one second unless told otherwise.
WITHIN_S = 3.0


@click.command()
@click.argument("addresses", metavar="[ADDRESS]...", type=ADDRESS, nargs=-1, envvar="HANDOFF_SEEDS")
@credentials_options
@click.option(
    "--timeout",
    "within_s",
    type=Seconds(min=0.01),
    default=WITHIN_S,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long for the answer.",
)
@click.option("--ready", is_flag=True, help="Fail as well if the node is leaving or out of use.")
@json_option
def ping(
    addresses: tuple[str, ...], credentials: Credentials, within_s: float, ready: bool, as_json: bool
) -> None:
    """Ask the node at ADDRESS for a sign of life, which its event loop gives; of several, any one.

    The exit status is 0 if it has answered in time, and 1 if not. Without an ADDRESS, those of HANDOFF_SEEDS are asked.
    """
    if not addresses:
        raise click.UsageError("name the ADDRESS of a node, or set HANDOFF_SEEDS")
    with one_line_errors():
        pong = asyncio.run(_ask(addresses, credentials, within_s))
    if ready and pong.not_ready:
        raise click.ClickException(f"node {escape_name(pong.advert.name)} is not ready: {pong.not_ready}")
    click.echo(_json_of(pong) if as_json else _line_of(pong))


async def _ask(addresses: tuple[str, ...], credentials: Credentials, within_s: float) -> Pong:
    network = open_zeromq(credentials)
    try:
        return await ask(network, addresses, within_s)
    finally:
        await network.close()


def _line_of(pong: Pong) -> str:
    why = pong.not_ready
    state = f", not ready: {why}" if why else ""
    name, address = escape_name(pong.advert.name), escape_name(pong.address)
    return f"node {name} at {address} answered in {pong.took_s * 1000:.1f} ms{escape_name(state)}"


def _json_of(pong: Pong) -> str:
    # Probes look at the exit status.
    from handoff_actors.cli.output.json_values import to_json  # noqa: PLC0415

    return to_json(
        {
            "name": pong.advert.name,
            "address": pong.address,
            "incarnation": pong.advert.incarnation,
            "milliseconds": round(pong.took_s * 1000, 3),
            "ready": not pong.not_ready,
            "reason": pong.not_ready or None,
        }
    )
