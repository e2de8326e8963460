"""The reason why ssh has ended, and what to do about it, from what it has said."""

import re
from typing import Final

from handoff_actors.errors import HandoffError
from handoff_actors.escaping import escape_name

#: The exit status of ssh where the connection has failed, not the command.
FAILED: Final = 255
#: Of a shell that has not found the command, or can't run it.
_NO_SHELL: Final = (126, 127)
_TOO_MANY: Final = (
    "its SSH server, or a jump host's, takes no more connections at once (MaxStartups), or none from here: try again with "
    "fewer at once (--parallel)"
)
#: Patterns of ssh's own words, and what to do. The first that is found counts.
_REMEDIES: Final = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that was known: find out why; if all is well, `ssh-keygen -R` removes the old one",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        "its host key is not known: connect once by hand with ssh and check it, or have it in known_hosts",
    ),
    (
        r"Permission denied",
        "ssh has to get in without asking: a key in your agent, or in the host's authorized_keys (ssh-copy-id)",
    ),
    (
        r"not responding",
        "the connection broke, and a start that had begun there is undone within two minutes",
    ),
    (r"Could not resolve hostname", "is it spelled as in ~/.ssh/config or in the DNS?"),
    (r"Connection refused", "is its SSH server up, at that port?"),
    (r"timed out|No route to host|Network is unreachable", "is it up, and reachable from here?"),
    (r"Too many authentication failures", "name the key in ~/.ssh/config (IdentityFile, IdentitiesOnly yes)"),
    (
        r"kex_exchange_identification|Connection (?:closed|reset) by",
        _TOO_MANY,
    ),
)
_NOISE: Final = re.compile(
    r"^(?:Warning: Permanently added|Pseudo-terminal|\*\* |@{3,}|debug\d:|Killed by signal)"
)
_MOST: Final = 300


class HostFailure(HandoffError):
    """A host on which a command has failed: why, and what to do."""


def failure_of_ssh(status: int | None, stderr: str, stdout: str, *, has_agent: bool) -> HostFailure:
    """Explain why an ssh has ended before its time, from its exit status and what it, and the other side, have said.

    `has_agent`: the other side had come to run the agent.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    remedy = next((text for pattern, text in _REMEDIES if re.search(pattern, stderr)), "")
    last = escape_name(lines[-1][:_MOST]) if lines else ""
    if status == FAILED and (last or not has_agent):
        reason = last or "ssh could not connect, and did not say why"
        return HostFailure(f"{reason}; {remedy}" if remedy else reason)
    if has_agent:
        return HostFailure(
            f"the agent there has ended before its time (status {status}): {last or 'it said nothing'}"
        )
    printed = [line.strip() for line in stdout.splitlines() if line.strip()]
    # A banner of the server's is among the errors.
    last = " | ".join([*filter(None, [last]), *(escape_name(line[:_MOST]) for line in printed[-1:])])
    shell = " (it has no /bin/sh, or a login shell that runs no commands)" if status in _NO_SHELL else ""
    return HostFailure(
        f"the login ended with status {status}{shell}, and nothing could be run"
        + (f": {last}" if last else "")
    )
