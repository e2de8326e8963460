"""The lines about hosts, as commands for many machines print them on stderr."""

import sys
from typing import TYPE_CHECKING, Final

import click

from handoff_actors.cli.resources import amounts
from handoff_actors.escaping import escape_name

if TYPE_CHECKING:
    from handoff_actors.deploy.ssh.outcomes import HostOutcome

_SIGNS: Final = ("✓", "✗")
_PLAIN_SIGNS: Final = ("ok", "failed")


def print_outcome(outcome: "HostOutcome") -> None:
    """Print the line of one host."""
    click.echo(f"{_sign(outcome)} {escape_name(outcome.host)}: {_said(outcome)}", err=True)


def _said(outcome: "HostOutcome") -> str:
    note = f"; {outcome.note}" if outcome.note else ""
    match outcome.state:
        case "failed":
            return outcome.note
        case "ended":
            return f"its node has ended, and nothing is left there{note}"
        case "was not up":
            return f"no node of `handoff up` was up there, and nothing is left{note}"
        case "started" | "was up":
            assert outcome.node is not None
            node = outcome.node
            verb = "serves" if outcome.state == "started" else "was up already"
            name, address = escape_name(node.name), escape_name(node.address)
            return f"node {name} {verb} at {address}: {amounts(dict(node.capabilities))}{note}"


def _sign(outcome: "HostOutcome") -> str:
    try:
        "".join(_SIGNS).encode(sys.stderr.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_SIGNS[outcome.state == "failed"]
    return _SIGNS[outcome.state == "failed"]
