"""One ssh to one host, and the agent at its other end."""

import asyncio
import json
import os
import secrets
import signal
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import IO, Final, Self, TypeVar

import msgspec

from handoff_actors.deploy.ssh.agent_source import agent, first_words, second_step
from handoff_actors.deploy.ssh.complaints import FAILED, HostFailure, failure_of_ssh
from handoff_actors.deploy.ssh.messages import FromAgent, RefusedThere
from handoff_actors.errors import reason_of
from handoff_actors.escaping import escape_name, escape_text

#: ssh must neither ask nor wait for ever, and the user's configuration may be made for logins. Options that were given
#: before these count.
_OPTIONS: Final = (
    "-T", "-a", "-x",
    "-o", "BatchMode=yes",
    "-o", "ConnectTimeout=10",
    "-o", "ServerAliveInterval=5",
    "-o", "ServerAliveCountMax=3",
    "-o", "ClearAllForwardings=yes",
    "-o", "PermitLocalCommand=no",
    "-o", "RemoteCommand=none",
)  # fmt: skip
#: From nothing to a shell there, jump hosts and all.
REACHED_S: Final = 30.0
_PYTHON_S: Final = 60.0
_LONGEST_LINE: Final = 1 << 20
_NOISE_KEPT: Final = 2000
#: For the agent to undo what it has begun, once its stdin has ended.
UNDOING_S: Final = 15.0
_DYING_S: Final = 2.0

_decoder: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)

Answer = TypeVar("Answer", bound=FromAgent)


class SshCommand(msgspec.Struct, frozen=True):
    """The ssh to use, and the Python at the other end."""

    #: The program, and options of the user's.
    words: tuple[str, ...] = ("ssh",)
    #: A path or a name; "": look for one.
    python: str = ""
    #: From nothing to a shell there, jump hosts and all.
    reached_within_s: float = REACHED_S


class Conversation:
    """The agent on one host, from `async with` on. Raises HostFailure where ssh, the host or the agent fails."""

    def __init__(self, ssh: SshCommand, host: str, undoing_s: float = UNDOING_S) -> None:
        self._ssh = ssh
        self._undoing_s = undoing_s
        self._has_agent = False
        self._host = host
        self._marker = f"handoff-{secrets.token_hex(8)}"
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `_close` closes it
        #: What others have written to stdout, such as login scripts.
        self._noise = ""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undoing:
            undoing.push_async_callback(self._close, _DYING_S)
            await self._begin()
            undoing.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close(self._undoing_s)

    async def ask(self, request: Mapping[str, object]) -> None:
        """Send a request, or what an answer asked for."""
        stdin = self._running.stdin
        assert stdin is not None
        stdin.write(json.dumps(request).encode() + b"\n")
        # Where it is gone, the next answer says why.
        with suppress(ConnectionError):
            await stdin.drain()

    async def answer(self, expected: type[Answer], within_s: float) -> Answer:
        """Return the next message of the agent. Raises HostFailure if it is another one, also for a refusal."""
        message = await self.any_answer(within_s)
        if not isinstance(message, expected):
            raise HostFailure(f"its agent said {type(message).__name__} out of turn")
        return message

    async def any_answer(self, within_s: float) -> FromAgent:
        """Return the next message of the agent, of any kind. Raises HostFailure, also for a refusal."""
        text = await self._said(within_s)
        try:
            message: FromAgent = _decoder.decode(text)
        except msgspec.DecodeError as error:
            raise HostFailure(f"its agent said {escape_name(text)!r}: {error}") from error
        if isinstance(message, RefusedThere):
            raise HostFailure(escape_name(message.reason))
        return message

    async def rest(self) -> bytes:
        """Return some of the bytes that follow; empty at the end."""
        stdout = self._running.stdout
        assert stdout is not None
        return await stdout.read(_LONGEST_LINE)

    async def check_end(self) -> None:
        """Raise HostFailure if ssh has ended because of the connection."""
        if await _has_ended(self._running, _DYING_S) and self._running.returncode == FAILED:
            raise await self._ended()

    async def _begin(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._ssh.words,
                *_OPTIONS,
                "--",
                self._host,
                first_words(self._marker),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                limit=_LONGEST_LINE,
                # Ctrl-C is for the command alone, which has the agent undo what it has begun.
                start_new_session=True,
            )
        except OSError as error:
            raise HostFailure(f"ssh can't be started: {reason_of(error)}") from error
        await self._said(self._ssh.reached_within_s)
        stdin = self._running.stdin
        assert stdin is not None
        stdin.write(f"{second_step(self._marker)}\n{self._ssh.python}\n".encode())
        found = await self._said(_PYTHON_S)
        if found != "python":
            raise HostFailure(_no_python(found.removeprefix("none").strip(), self._ssh.python))
        stdin.write(f"{agent()}\n".encode())
        self._has_agent = True

    async def _said(self, within_s: float) -> str:
        """Return the rest of the next line that begins with the marker."""
        stdout = self._running.stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(within_s):
                while line := await stdout.readline():
                    # A login script may have left its last line open.
                    _before, marker, said = line.decode(errors="replace").rpartition(f"{self._marker} ")
                    if marker:
                        return said.strip()
                    self._noise = (self._noise + said)[-_NOISE_KEPT:]
        except TimeoutError as error:
            raise HostFailure(self._silence(within_s)) from error
        except ValueError as error:
            raise HostFailure(f"it says no end of things: {error}") from error
        raise await self._ended()

    def _silence(self, within_s: float) -> str:
        said = self._complaints().strip() or self._noise.strip()
        last = f": {escape_name(said.splitlines()[-1])}" if said else "; is it up, and reachable from here?"
        return f"no answer within {within_s:g} s{last}"

    async def _ended(self) -> HostFailure:
        await _has_ended(self._running, _DYING_S)
        complaints, noise = self._complaints(), escape_text(self._noise)
        return failure_of_ssh(self._running.returncode, complaints, noise, has_agent=self._has_agent)

    def _complaints(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def _close(self, within_s: float) -> None:
        """End ssh. The agent, if there is one, first has so long to undo what it has not finished."""
        process = self._process
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                if not await _has_ended(process, within_s):
                    _signal(process, signal.SIGTERM)
                    await _has_ended(process, _DYING_S)
            finally:
                _signal(process, signal.SIGKILL)
        self._errors.close()


async def _has_ended(process: asyncio.subprocess.Process, within_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await process.wait()
    return process.returncode is not None


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # The ssh of a jump host is in the same group.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _no_python(seen: str, given: str) -> str:
    if given:
        about = f"it is {seen}" if seen else "it is not there, or does not start"
        return f"--python {given}: {about}; nodes need Python 3.11 or later"
    about = (
        f"it has only Python {seen}" if seen else "it has no Python, or none in the PATH of such a connection"
    )
    return f"{about}; nodes need Python 3.11 or later: name one with --python"
