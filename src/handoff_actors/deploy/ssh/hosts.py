"""The hosts that a command is told: as ssh knows them, on the command line or in files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from handoff_actors.errors import HandoffError
from handoff_actors.escaping import escape_name

_URI: Final = "ssh://"
_WITH_PORT: Final = re.compile(r"(?P<host>[^:\s]+):(?P<port>\d+)")


class InvalidHostError(HandoffError):
    """A host that ssh can't have meant, or a file of hosts that can't be read."""


def read_hosts(words: Sequence[str]) -> tuple[str, ...]:
    """Return the hosts that these words name, each once: a word that is the path of a file stands for those in it.

    Raises InvalidHostError.
    """
    return tuple(dict.fromkeys(_checked(host) for word in words for host in _hosts_of(word)))


def name_of(host: str) -> str:
    """The host's name alone, without user and port."""
    rest = host.removeprefix(_URI).rpartition("@")[2]
    return re.sub(r":\d+$", "", rest).strip("[]") if host.startswith(_URI) else rest


def _hosts_of(word: str) -> Iterator[str]:
    path = Path(word)
    if not path.is_file():
        yield word
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidHostError(f"the hosts in {escape_name(word)} can't be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        host = line.partition("#")[0].strip()
        if len(host.split()) > 1:
            raise InvalidHostError(
                f"line {number} of {escape_name(word)} has more than a host: {escape_name(host)}"
            )
        if host:
            yield host


def _checked(host: str) -> str:
    shown = escape_name(host)
    if not host or host.startswith("-") or not host.isprintable() or " " in host:
        raise InvalidHostError(f"{shown!r} is neither a host nor a file of hosts")
    if "/" in host.removeprefix(_URI):
        raise InvalidHostError(f"{shown} is neither a host nor a file that is there")
    if match := _WITH_PORT.fullmatch(host):
        raise InvalidHostError(
            f"{shown}: ssh takes a port in another form, as in {_URI}{match['host']}:{match['port']}"
        )
    # ssh knows brackets in its own URIs only.
    user, at, name = host.rpartition("@")
    return f"{user}{at}{name[1:-1]}" if name.startswith("[") and name.endswith("]") else host
