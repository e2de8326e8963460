"""`handoff up`: one node on each of several hosts, and one cluster of them all."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handoff_actors.actors.member import open_zeromq
from handoff_actors.actors.ping import ping
from handoff_actors.addresses import TcpAddress, ip_of, is_loopback
from handoff_actors.deploy.ssh.bundle import bundle, digest, own_abi
from handoff_actors.deploy.ssh.complaints import HostFailure
from handoff_actors.deploy.ssh.conversation import Conversation, SshCommand
from handoff_actors.deploy.ssh.down import end_host
from handoff_actors.deploy.ssh.founding import Founding
from handoff_actors.deploy.ssh.hosts import name_of
from handoff_actors.deploy.ssh.messages import Able, Kept, NeedsPackages, ReadyNode, RunningThere, ServesThere
from handoff_actors.deploy.ssh.outcomes import HostOutcome
from handoff_actors.deploy.ssh.record import HostEntry, UpRecord
from handoff_actors.errors import AuthenticationError, ConnectionFailed, HandoffError, VersionMismatch
from handoff_actors.escaping import escape_name
from handoff_actors.text import is_name
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.versions import VERSION

if TYPE_CHECKING:
    from handoff_actors.transport.endpoint import Network

#: For another command's agent there, slow interpreters, and a slow disk.
_PREPARED_S: Final = 180.0
_INSTALLED_S: Final = 900.0
#: More than the agent waits for a node.
_SERVES_S: Final = 90.0
_KEPT_S: Final = 20.0
_PING_S: Final = 3.0
_KNOWN_S: Final = 3.0
_STOP_S: Final = 5.0


class UpPlan(Struct, frozen=True):
    """The options of `up`."""

    hosts: Sequence[str]
    key: ClusterKey
    ssh: SshCommand = SshCommand()
    port: int = 7070
    #: The host name or address at which others reach a node; %h is that of ssh's configuration.
    advertise: str = ""
    #: Members of a cluster that is there already.
    join: Sequence[str] = ()
    install: bool = False
    #: False: apps run elsewhere, so that this machine need not reach the nodes.
    checks: bool = True
    parallel: int = 8
    #: More options of `handoff node`.
    options: Sequence[str] = ()


class Up:
    """Brings nodes up, and tells the outcome of each host as soon as it is known."""

    def __init__(self, plan: UpPlan, record: UpRecord, tell: Callable[[HostOutcome], None]) -> None:
        self._plan = plan
        self._record = record
        self._tell = tell
        self._fingerprint = plan.key.derive("fingerprint of handoff up").hex()[:16]
        self._founding = Founding(record, self._known_members)
        self._at_once = asyncio.Semaphore(plan.parallel)
        self._network: Network | None = None
        for address in plan.join:
            self._founding.add(address)

    @property
    def members(self) -> Sequence[str]:
        """The addresses of the nodes that are up, and of those that they have joined."""
        return self._founding.members

    async def run(self) -> list[HostOutcome]:
        """Bring all of them up. Raises HandoffError where this machine's own part fails."""
        self._network = open_zeromq(Credentials(self._plan.key))
        try:
            async with asyncio.TaskGroup() as tasks:
                hosts = [tasks.create_task(self._host(host), name=host) for host in self._plan.hosts]
        finally:
            await self._network.close()
        return [task.result() for task in hosts]

    async def _host(self, host: str) -> HostOutcome:
        async with self._at_once:
            try:
                outcome = await self._bring_up(host)
            except HostFailure as failure:
                outcome = HostOutcome(host, "failed", note=str(failure))
        self._tell(outcome)
        return outcome

    async def _bring_up(self, host: str) -> HostOutcome:
        async with Conversation(self._plan.ssh, host) as agent:
            able = await self._prepared(agent)
            if isinstance(able, RunningThere):
                await self._check_running(host, able.ready)
                return HostOutcome(host, "was up", able.ready)
            starting = _Starting(agent, host, able)
            await self._founding.start(lambda members: self._start(starting, members))
        assert starting.serves is not None
        await self._check_outlives_session(host, starting.serves.ready)
        return HostOutcome(host, "started", starting.serves.ready, starting.serves.note)

    async def _prepared(self, agent: Conversation) -> Able | RunningThere:
        plan = self._plan
        await agent.ask(
            {
                "do": "up",
                "fingerprint": self._fingerprint,
                "version": VERSION,
                "protocol": PROTOCOL,
                "abi": own_abi(),
                "digest": digest(),
                "python": plan.ssh.python,
                "install": plan.install,
                "listen": _wildcard(plan.advertise),
                "port": plan.port,
            }
        )
        answer = await agent.any_answer(_PREPARED_S)
        if isinstance(answer, RunningThere | Able):
            return answer
        if not isinstance(answer, NeedsPackages):
            raise HostFailure(f"its agent said {type(answer).__name__} out of turn")
        packed = await asyncio.to_thread(bundle, with_dependencies=answer.abi == own_abi())
        await agent.ask(
            {"wheel": packed.wheel, "content": packed.content, "dependencies": packed.dependencies}
        )
        return await agent.answer(Able, _INSTALLED_S)

    async def _start(self, starting: "_Starting", members: Sequence[str]) -> str:
        """Start a node, see that it can be reached from here, and have it kept. Returns its address."""
        agent, host = starting.agent, starting.host
        options = await self._options(starting, members)
        await agent.ask({"options": options, "key": self._plan.key.text()})
        serves = starting.serves = await agent.answer(ServesThere, _SERVES_S)
        await self._check_reachable(serves.ready)
        had = self._record.hosts().get(host)
        self._put(host, serves.ready)
        with ExitStack() as undoing:
            if had is None:
                undoing.callback(self._record.remove, host)
            await agent.ask({"keep": True})
            await agent.answer(Kept, _KEPT_S)
            undoing.pop_all()
        return serves.ready.address

    async def _options(self, starting: "_Starting", members: Sequence[str]) -> list[str]:
        plan, host = self._plan, starting.host
        listen = str(TcpAddress(starting.able.host, plan.port))
        if is_loopback(listen) and (len(plan.hosts) > 1 or not all(map(is_loopback, members))):
            raise HostFailure(
                f"it was reached at its own {starting.able.host}, where other machines can't reach it: name it otherwise, or "
                "give its address with --advertise"
            )
        options = [*plan.options, "--listen", listen]
        if plan.advertise:
            options += ["--advertise", await _advertised(plan, host)]
        name = name_of(host)
        if any(entry.name == name for other, entry in self._record.hosts().items() if other != host):
            name = host
        if is_name(name):
            options += ["--name", name]
        return [*options, *(word for member in members for word in ("--join", member))]

    def _put(self, host: str, ready: ReadyNode) -> None:
        self._record.put(host, HostEntry(ready.address, ready.name, self._fingerprint, self._plan.ssh))

    async def _check_running(self, host: str, ready: ReadyNode) -> None:
        try:
            await self._check_reachable(ready)
        except HostFailure as failure:
            raise HostFailure(
                f"its node is up since earlier, but {failure}. `handoff down {host}` ends it"
            ) from failure
        self._put(host, ready)
        self._founding.add(ready.address)

    async def _check_reachable(self, ready: ReadyNode) -> None:
        """Raise HostFailure unless this machine reaches a node, and it is that one."""
        if not self._plan.checks:
            return
        assert self._network is not None
        address = escape_name(ready.address)
        try:
            pong = await ping(self._network, [ready.address], _PING_S)
        except ConnectionFailed as error:
            raise HostFailure(
                f"this machine gets no answer from its node at {address}: let the port through the firewall, choose another "
                "with --port, or give the right address with --advertise; if your apps run elsewhere, --no-check"
            ) from error
        except (AuthenticationError, VersionMismatch) as error:
            raise HostFailure(f"its node at {address} can't be used: {error}") from error
        if pong.advert.incarnation != ready.incarnation:
            raise HostFailure(
                f"another node answers at {address}: this address means another machine here, so give one with --advertise"
            )

    async def _check_outlives_session(self, host: str, ready: ReadyNode) -> None:
        try:
            await self._check_reachable(ready)
        except HostFailure as failure:
            await end_host(self._plan.ssh, host, _STOP_S)
            self._record.remove(host)
            raise HostFailure(
                "its node ended with the SSH session: something there ends what a session leaves (logind's "
                "KillUserProcesses=yes: `loginctl enable-linger` there keeps it)"
            ) from failure

    async def _known_members(self) -> Sequence[str]:
        """The recorded nodes of this cluster that answer."""
        entries = self._record.hosts().values()
        addresses = [entry.address for entry in entries if entry.fingerprint == self._fingerprint]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._answers(address)) for address in addresses]
        return [address for address, task in zip(addresses, asked, strict=True) if task.result()]

    async def _answers(self, address: str) -> bool:
        assert self._network is not None
        try:
            await ping(self._network, [address], _KNOWN_S)
        except HandoffError:
            return False
        return True


class _Starting:
    """A node that is being started."""

    def __init__(self, agent: Conversation, host: str, able: Able) -> None:
        self.agent = agent
        self.host = host
        self.able = able
        self.serves: ServesThere | None = None


def _wildcard(advertise: str) -> str:
    """All addresses of a machine whose advertised one may be another's; "": the one at which it was reached."""
    if not advertise:
        return ""
    ip = ip_of(advertise.strip("[]"))
    return "::" if ip is not None and ip.version == 6 else "0.0.0.0"  # noqa: PLR2004, S104 - there is a key


async def _advertised(plan: UpPlan, host: str) -> str:
    """Replace %h by the name or address that ssh connects to, as its configuration says."""
    if "%h" not in plan.advertise:
        return plan.advertise
    asking = await asyncio.create_subprocess_exec(
        *plan.ssh.words,
        *("-T", "-G", "--", host),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await asking.communicate()
    for line in output.decode(errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if name == "hostname":
            return plan.advertise.replace("%h", value)
    raise HostFailure("ssh -G does not say which host name it has")
