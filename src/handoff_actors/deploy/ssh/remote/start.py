"""Start a node that outlives the agent."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from handoff_actors.deploy.ssh.remote.channel import AgentRefused, CommandLink
from handoff_actors.deploy.ssh.remote.processes import Identity, end

#: A node says itself after 60 s that it could not start.
STARTS_WITHIN_S = 75.0
_LOOKS_EVERY_S = 0.02
#: Variables that would decide what the command decides, and those of the session that ends.
_NOT_FOR_NODES = frozenset(
    {
        "HANDOFF_ALSO_ACCEPT",
        "HANDOFF_INSECURE",
        "HANDOFF_JOIN_FILE",
        "HANDOFF_JOIN_WAIT",
        "HANDOFF_KEY",
        "HANDOFF_KEY_FILE",
        "HANDOFF_LOG_FILE",
        "HANDOFF_LOG_FORMAT",
        "HANDOFF_SEEDS",
        "SSH_AUTH_SOCK",
        "SSH_CLIENT",
        "SSH_CONNECTION",
        "SSH_ORIGINAL_COMMAND",
        "SSH_TTY",
        "XDG_SESSION_ID",
    }
)
_LAST_LINES = 5


class Order(NamedTuple):
    """A node to start."""

    #: Of the interpreter.
    words: Sequence[str]
    options: Sequence[str]
    key: str
    umask: int


class StartedNode(NamedTuple):
    """A node that serves."""

    identity: Identity
    #: What it has said of itself: name, address, capabilities, ...
    ready: Mapping[str, Any]


def check_ports(host: str, port: int) -> None:
    """Raise AgentRefused if another process has the port of the service. Port 0 is any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        # As ZeroMQ does: connections of a node that has just ended don't matter.
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((host, port))
        except OSError as error:
            raise AgentRefused(
                f"port {port} can't be had there: {error.strerror}. Choose another one with --port, or --port 0 for any free one"
            ) from error


def start(link: CommandLink, order: Order, log: Path, begun: Callable[[Identity], None]) -> StartedNode:
    """Start a node, and wait until it serves; `begun` is called once it has begun.

    Raises AgentRefused, CommandGone, OSError, with the node ended.
    """
    reading, writing = os.pipe()
    try:
        os.write(writing, f"{order.key}\n".encode("ascii"))
        os.close(writing)
        with log.open("ab") as output:
            node = subprocess.Popen(  # noqa: S603 - this user's own programs
                # The key is in neither its arguments, nor its environment, nor a file.
                [*order.words, *order.options, "--json", "--key-file", f"/dev/fd/{reading}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path("~").expanduser(),
                env={name: value for name, value in os.environ.items() if name not in _NOT_FOR_NODES},
                pass_fds=(reading,),
                start_new_session=True,
                umask=order.umask,
            )
    finally:
        os.close(reading)
    identity = Identity.of(node.pid)
    if identity is None:
        raise _failed(node, log)
    with ExitStack() as undoing:
        undoing.callback(node.wait)
        undoing.callback(end, identity, 0.0)
        begun(identity)
        ready = _ready(link, node, log)
        undoing.pop_all()
    return StartedNode(identity, ready)


def _ready(link: CommandLink, node: "subprocess.Popen[bytes]", log: Path) -> Mapping[str, Any]:
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                with suppress(ValueError):
                    found = json.loads(line)
                    if "incarnation" in found and "capabilities" in found:
                        ready: Mapping[str, Any] = found
                        return ready
        if node.poll() is not None:
            raise _failed(node, log)
        link.pause(_LOOKS_EVERY_S)
    raise AgentRefused(f"the node did not come to serve within {STARTS_WITHIN_S:g} s")


def _failed(node: "subprocess.Popen[bytes]", log: Path) -> AgentRefused:
    status = node.wait()
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    said = errors[-1] if errors else " | ".join(lines[-_LAST_LINES:])
    return AgentRefused(said or f"the node ended with status {status} and said nothing")
