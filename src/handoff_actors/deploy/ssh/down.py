"""`handoff down`: end the nodes that `up` has started, and remove what it has made."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from handoff_actors.deploy.ssh.complaints import HostFailure
from handoff_actors.deploy.ssh.conversation import Conversation, SshCommand
from handoff_actors.deploy.ssh.messages import EndedThere
from handoff_actors.deploy.ssh.outcomes import HostOutcome
from handoff_actors.deploy.ssh.record import UpRecord
from handoff_actors.escaping import escape_name

#: For another command's agent there, and a slow disk.
_MARGIN_S: Final = 180.0
_LEAVING_S: Final = 0.5


class DownPlan(Struct, frozen=True):
    """The options of `down`."""

    hosts: Sequence[str]
    #: Empty where it is to be as `up` has reached them.
    ssh: SshCommand
    drain_s: float = 35.0
    parallel: int = 8


class Down:
    """Ends nodes, and tells the outcome of each host as soon as it is known."""

    def __init__(self, plan: DownPlan, record: UpRecord, tell: Callable[[HostOutcome], None]) -> None:
        self._plan = plan
        self._record = record
        self._tell = tell
        self._at_once = asyncio.Semaphore(plan.parallel)

    async def run(self) -> list[HostOutcome]:
        """End all of them. Raises HandoffError where this machine's own part fails."""
        async with asyncio.TaskGroup() as tasks:
            hosts = [tasks.create_task(self._host(host), name=host) for host in self._plan.hosts]
        return [task.result() for task in hosts]

    async def _host(self, host: str) -> HostOutcome:
        async with self._at_once:
            ssh = ssh_for(host, self._plan.ssh, self._record)
            try:
                ended = await end_host(ssh, host, self._plan.drain_s)
            except HostFailure as failure:
                outcome = HostOutcome(host, "failed", note=str(failure))
            else:
                self._record.remove(host)
                outcome = _outcome(host, ended)
        self._tell(outcome)
        return outcome


def ssh_for(host: str, given: SshCommand, record: UpRecord) -> SshCommand:
    """The ssh and the Python that were given; what was not is that of the `up` that has started the node there."""
    entry = record.hosts().get(host)
    usual = SshCommand() if entry is None else entry.ssh
    return SshCommand(given.words or usual.words, given.python or usual.python)


async def end_host(ssh: SshCommand, host: str, drain_s: float) -> EndedThere:
    """End the node on one host, and remove what `up` has made there. Raises HostFailure."""
    # Once it is told, the agent goes on alone.
    async with Conversation(ssh, host, undoing_s=_LEAVING_S) as agent:
        await agent.ask({"do": "down", "drain_s": drain_s})
        return await agent.answer(EndedThere, drain_s + _MARGIN_S)


def _outcome(host: str, ended: EndedThere) -> HostOutcome:
    notes = []
    if ended.killed:
        notes.append("it did not end in time, and was killed")
    if ended.left:
        paths = ", ".join(map(escape_name, ended.left))
        notes.append(f"not made by `handoff up`, or not removable, and left there: {paths}")
    return HostOutcome(host, "ended" if ended.was == "running" else "was not up", note="; ".join(notes))
