"""The agent's end of the conversation with a command: lines on stdin and stdout.

A line that is said begins with a marker, so that what login scripts print can't be mistaken for it. The end of stdin means
that the command, or the connection, is gone.
"""

import json
import os
import select
import time
from collections.abc import Mapping
from typing import Any

_STDIN, _STDOUT = 0, 1
_CHUNK = 1 << 16


class CommandGone(Exception):
    """The command at the other end has ended, or says nothing any more."""


class AgentRefused(Exception):
    """The agent can't do what it was asked for; the text says why, and what to do."""


class CommandLink:
    """Lines of JSON to and from the command."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._heard = bytearray()
        self._is_ended = False

    def say(self, kind: str, **fields: object) -> None:
        """Send a message. Raises CommandGone."""
        line = f"{self._marker} {json.dumps({'type': kind, **fields})}\n".encode()
        self.write(line)

    def write(self, content: bytes) -> None:
        """Send bytes as they are. Raises CommandGone."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(_STDOUT, rest) :]
        except OSError as error:
            raise CommandGone from error

    def hear(self, within_s: float) -> Mapping[str, Any]:
        """Return the next message. Raises CommandGone if there is none in time."""
        until = time.monotonic() + within_s
        while b"\n" not in self._heard:
            left_s = until - time.monotonic()
            if left_s <= 0 or self.is_gone(left_s):
                raise CommandGone
        line, _, rest = self._heard.partition(b"\n")
        self._heard = bytearray(rest)
        message: Mapping[str, Any] = json.loads(line)
        return message

    def is_gone(self, within_s: float) -> bool:
        """Wait until something is heard, or for so long; return whether the command is gone."""
        if not self._is_ended and select.select([_STDIN], [], [], within_s)[0]:
            chunk = os.read(_STDIN, _CHUNK)
            self._heard += chunk
            self._is_ended = not chunk
        return self._is_ended

    def pause(self, seconds: float) -> None:
        """Wait for so long. Raises CommandGone as soon as the command is."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            if self.is_gone(left_s):
                raise CommandGone
