"""`handoff node`: offer this machine to a cluster."""

import errno
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import click
from msgspec.structs import replace

from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.daemon import DaemonOptions, serve
from handoff_actors.actors.node.host.capabilities import own_capabilities
from handoff_actors.actors.node.host.slurm import SlurmTask, show_own_devices, slurm_task
from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.addresses import MAX_PORT, advertised, is_loopback
from handoff_actors.cli.metrics import serving_pages
from handoff_actors.cli.options.ending import EndingOptions, with_ending_options
from handoff_actors.cli.options.join import JoinOptions, join_options
from handoff_actors.cli.options.log import log_options
from handoff_actors.cli.options.memory import with_memory_options
from handoff_actors.cli.options.parameters import (
    AMOUNT,
    LISTEN_ADDRESS,
    NODE_NAME,
    credentials_options,
)
from handoff_actors.cli.output.announcing import announce
from handoff_actors.cli.output.failures import one_line_errors
from handoff_actors.cli.output.json_values import to_json
from handoff_actors.cli.output.options import json_option
from handoff_actors.cli.resources import amounts
from handoff_actors.client.options import check_resources
from handoff_actors.errors import InvalidAddressError
from handoff_actors.escaping import escape_name
from handoff_actors.ids import Resources
from handoff_actors.transport.credentials import Credentials
from handoff_actors.wire.messages.members import Advert

LISTEN = "tcp://127.0.0.1:7070"


@click.command()
@click.option(
    "--name",
    type=NODE_NAME,
    help="Name of the node, unique in the cluster. [default: made of host name and process id; in Slurm of machine and job]",
)
@click.option(
    "--cpu",
    type=float,
    metavar="CORES",
    help="Cores to offer. [default: the cores that this process, container or task of Slurm may use, at least 1]",
)
@click.option(
    "--memory",
    type=float,
    metavar="MB",
    help="Memory to offer. [default: the memory of this machine, container or task of Slurm]",
)
@click.option(
    "--resource",
    "others",
    type=AMOUNT,
    multiple=True,
    metavar="NAME=AMOUNT",
    help="Another resource to offer, for example gpu=2. Repeatable.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that run functions. [default: one per core, and more where functions claim fractions]",
)
@click.option(
    "--listen",
    type=LISTEN_ADDRESS,
    metavar="ADDRESS",
    help=f"Address to listen at. [default: {LISTEN}; with --join-file any port at all addresses]",
)
@click.option(
    "--advertise",
    metavar="HOST[:PORT]",
    help="Host name, and mapped port, for others to connect to, if not those in --listen. "
    "The port after PORT is to be mapped to the bus's.",
)
@click.option(
    "--bus-port",
    type=click.IntRange(0, MAX_PORT),
    metavar="PORT",
    help="Port for the adverts that members send one another. "
    "[default: the one after that of --listen; on the loopback any that is free]",
)
@join_options(
    seeds_help="Address of any member of the cluster to join. Repeatable; one that answers is enough."
)
@click.option(
    "--may-be-alone",
    is_flag=True,
    envvar="HANDOFF_MAY_BE_ALONE",
    show_envvar=True,
    help="Serve even if none of the members to join has answered, and look for them from then on.",
)
@credentials_options
@with_ending_options
@with_memory_options
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve /healthz, /readyz and, with the extra `prometheus`, /metrics at this port (0: any free one).",
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="Serve these pages at this address. Anyone who can reach it can read them.",
)
@log_options
@json_option
def node(
    name: str | None,
    cpu: float | None,
    memory: float | None,
    others: tuple[tuple[str, float], ...],
    workers: int | None,
    listen: str | None,
    advertise: str | None,
    bus_port: int | None,
    join: JoinOptions,
    may_be_alone: bool,
    credentials: Credentials,
    ending: EndingOptions,
    memory_options: MemoryOptions,
    metrics_port: int | None,
    metrics_host: str,
    as_json: bool,
) -> None:
    """Offer this machine to a cluster, until SIGTERM or SIGINT.

    Prints one line once the node serves. On the signal, the node waits for running functions; a second signal ends it
    at once. With --idle or --lifetime it ends so by itself, with exit status 0.
    """
    listen = listen or (LISTEN if join.file is None else None)
    if listen is not None:
        _check_addresses(listen, advertise, join)
    task = slurm_task()
    capabilities = _capabilities(task, cpu, memory, others)
    options = DaemonOptions(
        *(name, capabilities, workers, listen, advertise, bus_port, join.seeds, join.wait_s),
        may_be_alone=may_be_alone,
        join_file=join.file,
        drain_s=ending.drain_s,
        idle_s=ending.idle_s,
        lifetime_s=ending.lifetime_s,
        credentials=credentials,
        memory=memory_options,
    )
    if task is not None:
        options = _within_slurm(options, task)
    with ExitStack() as closing:
        _serve(options, _announcer(closing, metrics_port, metrics_host, as_json=as_json))


def _within_slurm(options: DaemonOptions, task: SlurmTask) -> DaemonOptions:
    """Complete the options of a node in a job of Slurm."""
    show_own_devices(task)
    memory = replace(options.memory or MemoryOptions(), memory_mb=options.capabilities["memory"])
    lifetime_s = task.ends_in_s if options.lifetime_s is None else options.lifetime_s
    return replace(options, name=options.name or task.name, lifetime_s=lifetime_s, memory=memory)


def _serve(options: DaemonOptions, ready: Callable[[NodeActor], ExitStack]) -> None:
    with one_line_errors():
        try:
            serve(options, ready)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise click.ClickException(
                f"{options.listen} is in use by another process; choose another address with --listen, "
                "or port 0 for any that is free"
            ) from error


def _capabilities(
    task: SlurmTask | None, cpu: float | None, memory: float | None, others: tuple[tuple[str, float], ...]
) -> Resources:
    given = {"cpu": cpu, "memory": memory, **dict(others)}
    capabilities = own_capabilities(task) | {
        resource: amount for resource, amount in given.items() if amount is not None
    }
    try:
        return check_resources(capabilities)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _check_addresses(listen: str, advertise: str | None, join: JoinOptions) -> None:
    # With a join directory the node finds out by itself what to advertise.
    if advertise is not None or join.file is None:
        try:
            # The bus has a port of its own at the same host.
            advertised(listen, listen, advertise)
        except InvalidAddressError as error:
            raise click.UsageError(f"--advertise: {error}") from error
    far = next((seed for seed in join.seeds if not is_loopback(seed)), None)
    if far is not None and is_loopback(listen):
        raise click.UsageError(
            f"the members at {far} can't reach a node at {listen}; "
            "choose an address of this machine's with --listen, for example tcp://10.0.0.2:7070"
        )


def _announcer(
    closing: ExitStack, metrics_port: int | None, metrics_host: str, *, as_json: bool
) -> Callable[[NodeActor], ExitStack]:
    def ready(serving: NodeActor) -> ExitStack:
        with ExitStack() as until_drained:
            pages = {}
            if metrics_port is not None:
                pages = _pages(
                    until_drained.enter_context(serving_pages(serving, metrics_port, metrics_host))
                )
            advert = serving.advert()
            line = _ready_json(advert, pages) if as_json else _ready_line(advert, pages)
            closing.callback(announce(line))
            return until_drained.pop_all()
        raise AssertionError

    return ready


def _pages(served: tuple[str, bool]) -> dict[str, str]:
    """Name the addresses of the pages."""
    address, has_metrics = served
    return ({"metrics": f"{address}/metrics"} if has_metrics else {}) | {"health": f"{address}/healthz"}


def _ready_line(advert: Advert, pages: Mapping[str, str]) -> str:
    noun = "worker" if advert.workers == 1 else "workers"
    offer = amounts(advert.capabilities)
    name, address = escape_name(advert.name), escape_name(advert.address)
    line = f"node {name} serves at {address}: {offer}, {advert.workers} {noun}"
    # The first one says where the others are.
    return next((f"{line}, {page} at {address}" for page, address in pages.items()), line)


def _ready_json(advert: Advert, pages: Mapping[str, str]) -> str:
    return to_json(
        {
            "name": advert.name,
            "address": advert.address,
            "bus": advert.bus,
            "incarnation": advert.incarnation,
            "capabilities": advert.capabilities,
            "workers": advert.workers,
        }
        | dict(pages)
    )
