"""The agent as a whole: takes one request, does it, and says how it ended."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from handoff_actors.deploy.ssh.remote.channel import AgentRefused, CommandGone, CommandLink
from handoff_actors.deploy.ssh.remote.tasks import down, logs, up

_REQUESTED_S = 60.0


def main(marker: str) -> None:
    """Do what the command asks for."""
    # All that is made is for this user alone.
    umask = os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _told_to_end)
    link = CommandLink(marker)
    with suppress(CommandGone):
        try:
            _do(link, link.hear(_REQUESTED_S), umask)
        except AgentRefused as refusal:
            link.say("refused", reason=str(refusal))
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            link.say("refused", reason=f"{error.strerror or error}{where}")


def _do(link: CommandLink, request: Mapping[str, Any], umask: int) -> None:
    match request["do"]:
        case "up":
            up(link, request, umask)
        case "down":
            down(link, request)
        case "logs":
            logs(link, request)


def _told_to_end(_number: int, _frame: FrameType | None) -> None:
    # Once: what is made has to be undone.
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise CommandGone
