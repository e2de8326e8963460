"""Starts a node in this process, and makes it a member of a cluster."""

import logging
import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from handoff_actors.actors.join_files.directory import JoinDirectory
from handoff_actors.actors.member import LOOPBACK, Member
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.actors.own_addresses import address_to_bind, check_advertised, reachable_host
from handoff_actors.addresses import TcpAddress, is_loopback, split_address
from handoff_actors.core.node.lifetime import FOREVER, Lifetime
from handoff_actors.errors import ConnectionFailed, HandoffError
from handoff_actors.ids import Resources
from handoff_actors.platforms import check_nodes_run_here
from handoff_actors.text import check_node_name
from handoff_actors.workers.nesting import check_depth

log = logging.getLogger(__name__)

_ANY_ADDRESS: Final = "tcp://*:0"


async def host_node(
    member: Member,
    capabilities: Resources,
    *,
    name: str | None = None,
    workers: int | None = None,
    listen: str | None = None,
    advertise: str | None = None,
    bus_port: int | None = None,
    seeds: Sequence[str] = (),
    join_wait_s: float = 0.0,
    may_be_alone: bool = False,
    join_file: str | os.PathLike[str] | None = None,
    options: MemoryOptions | None = None,
    lifetime: Lifetime = FOREVER,
) -> NodeActor:
    """Have a node in this process. It serves others if it is given an address to listen at, seeds to join, or a join directory.

    With `may_be_alone` it serves even if no seed has answered, and goes on looking for them.

    Raises UnsupportedPlatform unless this is Linux, HandoffError if there is a node already or too many are nested,
    ValueError for a name that is none, InvalidAddressError, InsecureAddressError for an address beyond loopback without a
    cluster key, InvalidKeyError, JoinDirectoryError, ConnectionFailed, AuthenticationError, VersionMismatch, OSError.
    """
    check_nodes_run_here()
    member.check_hosts_no_node()
    check_depth()
    directory = None if join_file is None else JoinDirectory(join_file)
    if directory is not None:
        await member.adopt_key_of(directory)
        listen, advertise = await _among_machines(listen, advertise)
    listen = await _checked_address(member, listen or _where_to_listen(seeds), advertise)
    check_node_name(name)
    own_name = name or _name_of_host()
    usual = workers if workers is not None else max(1, round(capabilities.get("cpu", 1)))
    options = options or MemoryOptions.from_environment()
    node = NodeActor(
        own_name, capabilities, usual, member, most_workers=workers, options=options, lifetime=lifetime
    )
    async with AsyncExitStack() as on_failure:
        # The node has a store from the first, which must not stay if its address is taken.
        on_failure.push_async_callback(node.close)
        await node.start()
        member.host(node, listen, advertise, bus_port)
        on_failure.pop_all()
    await _join(member, directory, seeds, join_wait_s, may_be_alone=may_be_alone)
    return node


async def _join(
    member: Member,
    directory: JoinDirectory | None,
    seeds: Sequence[str],
    wait_s: float,
    *,
    may_be_alone: bool,
) -> None:
    async with AsyncExitStack() as on_failure:
        # A node that can't join would have no way to its cluster, and be in the way of another one.
        on_failure.push_async_callback(member.end_node)
        if directory is not None:
            await member.meet(directory)
        try:
            if seeds:
                await member.join(seeds, wait_s)
        except ConnectionFailed as error:
            if not may_be_alone:
                raise
            log.info("serves alone so far", extra={"seeds": ", ".join(seeds), "reason": str(error)})
        on_failure.pop_all()


async def _checked_address(member: Member, listen: str | None, advertise: str | None) -> str | None:
    """Return the address to listen at as ZeroMQ binds it. Raises as `host_node` does."""
    if listen is not None:
        listen = await address_to_bind(member, listen)
        member.check_bind(listen)
    if advertise is not None:
        await check_advertised(member, advertise)
    return listen


async def _among_machines(listen: str | None, advertise: str | None) -> tuple[str, str | None]:
    """Choose an address to listen at, and the host to advertise, so that other machines reach the node."""
    listen = listen or _ANY_ADDRESS
    if advertise is not None or not split_address(listen).is_wildcard:
        return listen, advertise
    host = await reachable_host()
    return (LOOPBACK, None) if is_loopback(str(TcpAddress(host, 1))) else (listen, host)


def _name_of_host() -> str:
    """Make a name that no other node has. The kernel allows any bytes in a host name, and none."""
    host = "".join(letter if letter.isprintable() else "-" for letter in socket.gethostname())
    return f"{host or 'node'}-{os.getpid()}-{secrets.token_hex(2)}"


def _where_to_listen(seeds: Sequence[str]) -> str | None:
    if not seeds:
        return None
    if all(is_loopback(seed) for seed in seeds):
        return LOOPBACK
    raise HandoffError(
        f"a node that joins {', '.join(seeds)} must be reachable from there; "
        "give the address at which it is to listen, for example listen='tcp://10.0.0.2:7070'"
    )
