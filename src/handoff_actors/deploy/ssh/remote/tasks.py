"""The agent's tasks: bring a node up, end it, show its log."""

import os
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from handoff_actors.deploy.ssh.remote.channel import AgentRefused, CommandLink
from handoff_actors.deploy.ssh.remote.install import install, installed, received, remove_all
from handoff_actors.deploy.ssh.remote.interpreters import Interpreter, asked, interpreters
from handoff_actors.deploy.ssh.remote.own_address import own_address
from handoff_actors.deploy.ssh.remote.places import (
    State,
    install_place,
    make,
    remove,
    remove_installation,
    state_place,
)
from handoff_actors.deploy.ssh.remote.processes import Identity, end
from handoff_actors.deploy.ssh.remote.sessions import protection, session_here
from handoff_actors.deploy.ssh.remote.start import Order, check_ports, start

#: An agent of another command may be starting a node, or draining one.
_LOCKED_S = 90.0
#: Another host may have to start first.
_ORDERED_S = 240.0
_KEPT_S = 60.0
_FOLLOWS_EVERY_S = 0.25
_CHUNK = 1 << 16


def up(link: CommandLink, request: Mapping[str, Any], umask: int) -> None:
    """Bring a node up, unless it is; leaves nothing of a start that has failed. Raises AgentRefused, CommandGone, OSError."""
    state = State(state_place())
    with state.locked(link, _LOCKED_S):
        earlier = state.read()
        node = Identity.read(earlier.get("node"))
        if node is not None and node.lives:
            if earlier.get("serves"):
                _say_running(link, earlier, request["fingerprint"])
                return
            # The agent that had started it was killed.
            end(node, 0.0)
        with ExitStack() as undoing:
            undoing.callback(_restore, state, earlier)
            python = _interpreter(link, request, undoing)
            words, note = protection(session_here())
            host = request["listen"] or own_address()
            check_ports(host, request["port"])
            link.say("able", host=host, python=python.python, version=python.version)
            order = link.hear(_ORDERED_S)
            state.clear()
            record = {"fingerprint": request["fingerprint"]}

            def begun(identity: Identity) -> None:
                state.write(record | {"node": identity, "serves": False})

            # -P: as for an installed command, the current directory is not where modules are looked for first.
            command = [*words, python.path, "-P", "-m", "handoff_actors.cli", "node"]
            started = start(link, Order(command, order["options"], order["key"], umask), state.log, begun)
            undoing.callback(end, started.identity, 0.0)
            link.say("serves", ready=started.ready, note=note)
            link.hear(_KEPT_S)
            state.write(record | {"node": started.identity, "serves": True, "ready": started.ready})
            undoing.pop_all()
        link.say("kept")


def down(link: CommandLink, request: Mapping[str, Any]) -> None:
    """End the node that `up` has started, and remove all that it has made. Raises AgentRefused, CommandGone, OSError."""
    state = State(state_place())
    if not (state.place.exists() or install_place().exists()):
        link.say("ended", was="nothing", killed=False, left=[])
        return
    with state.locked(link, _LOCKED_S):
        record = state.read()
        node = Identity.read(record.get("node"))
        lives = node is not None and node.lives
        was_killed = node is not None and lives and end(node, request["drain_s"])
        left = remove_all()
        state.clear()
    was = "running" if lives else "stopped" if record else "nothing"
    link.say("ended", was=was, killed=was_killed, left=left)


def logs(link: CommandLink, request: Mapping[str, Any]) -> None:
    """Show the last lines of a node's log, and what it gets while the command is there. Raises AgentRefused, CommandGone."""
    path = State(state_place()).log
    try:
        # Replaced bytes would be those of a line that is not complete.
        opened = path.open("rb")
    except FileNotFoundError:
        raise AgentRefused("`handoff up` has started no node there") from None
    with opened as log:
        link.say("log")
        for line in deque(log, request["lines"]):
            link.write(line)
        goes_on = request["follow"]
        while goes_on:
            link.pause(_FOLLOWS_EVERY_S)
            # A new node has a log of its own. What the old one said last is still to be read.
            goes_on = path.exists() and path.stat().st_ino == os.fstat(log.fileno()).st_ino
            while chunk := log.read(_CHUNK):
                link.write(chunk)


def _say_running(link: CommandLink, record: Mapping[str, Any], fingerprint: str) -> None:
    if record.get("fingerprint") != fingerprint:
        raise AgentRefused(
            "a node with another key is up there, which an earlier `handoff up` has started: end it with `handoff down`, or "
            "give its key"
        )
    link.say("running", ready=record["ready"])


def _restore(state: State, earlier: Mapping[str, Any]) -> None:
    """Leave what there was: the record of a node that has ended says what an earlier start has made."""
    state.clear()
    if earlier:
        state.write(earlier)


def _interpreter(link: CommandLink, request: Mapping[str, Any], undoing: ExitStack) -> Interpreter:
    digest = request["digest"]
    ours = [str(path) for path in (installed(digest),) if path is not None]
    found = []
    for path in interpreters(ours, request["python"]):
        one = asked(link, path)
        if one is None or not one.is_late_enough:
            continue
        if one.protocol == request["protocol"]:
            return one
        found.append(one)
    if not found:
        raise AgentRefused(f"Python does not answer there: {sys.executable}")
    if not request["install"]:
        raise AgentRefused(f"{'; '.join(dict.fromkeys(one.about for one in found))}. {_remedy(request)}")
    base = next((one for one in found if one.abi == request["abi"]), found[0])
    link.say("needs", abi=base.abi)
    sent = received(link)
    undoing.callback(remove, install_place())
    make(install_place())
    undoing.callback(remove_installation, install_place() / digest)
    return install(link, base, digest, sent)


def _remedy(request: Mapping[str, Any]) -> str:
    return (
        f"Nodes of this cluster need handoff_actors {request['version']} (protocol {request['protocol']}): name a Python "
        "that has it with --python, or have it installed with --install"
    )
