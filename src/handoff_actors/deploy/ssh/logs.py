"""`handoff logs`: the log of a node that `up` has started."""

from collections.abc import Callable
from typing import Final

from handoff_actors.deploy.ssh.conversation import Conversation, SshCommand
from handoff_actors.deploy.ssh.messages import LogBegins

_BEGINS_S: Final = 30.0


async def show_log(
    ssh: SshCommand, host: str, lines: int, *, follow: bool, show: Callable[[bytes], None]
) -> None:
    """Show the last lines of the log, and while `follow` what it gets. Raises HostFailure, also if ssh fails on the way."""
    async with Conversation(ssh, host) as agent:
        await agent.ask({"do": "logs", "lines": lines, "follow": follow})
        await agent.answer(LogBegins, _BEGINS_S)
        while chunk := await agent.rest():
            show(chunk)
        await agent.check_end()
