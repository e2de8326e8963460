"""The app's end of a node that is its child: starts the process, waits for it, ends it."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from handoff_actors.errors import HandoffError
from handoff_actors.process.standard_descriptors import hold_standard_descriptors, is_inherited

_STARTS_WITHIN_S: Final = 60.0
#: A node that is to end at once and has not done so by then is killed.
_ENDS_WITHIN_S: Final = 10.0
#: The daemon can import nothing before it has this process's path. With -c it has an empty `__main__`.
_BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[4:]; from handoff_actors.actors.node.child import main; main()"
)


class LocalNode:
    """One node of a `LocalCluster`, a daemon in a process of its own."""

    def __init__(
        self, name: str, options: Mapping[str, object], environment: Mapping[str, str], level: str
    ) -> None:
        """Start the process; it does not serve before `wait_until_ready` has returned."""
        #: Unique in its cluster.
        self.name = name
        #: The address that the node serves at, once it does.
        self.address = ""
        hold_standard_descriptors()
        ours, theirs = os.pipe()
        self._pipe = os.fdopen(ours, "rb", buffering=0)
        settings = {"name": name, "lives_with": os.getpid(), **options}
        arguments = [str(theirs), level, json.dumps(settings), *_own_path()]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own arguments
                [sys.executable, "-c", _BOOT, *arguments],
                env=dict(environment),
                # What comes in on the app's stdin is the app's,
                stdin=subprocess.DEVNULL,
                # which may have been started without the others,
                stdout=None if is_inherited(1) else subprocess.DEVNULL,
                stderr=None if is_inherited(2) else subprocess.DEVNULL,
                pass_fds=[theirs],
                # and so is Ctrl-C in its terminal.
                start_new_session=True,
            )
        except OSError:
            self._pipe.close()
            raise
        finally:
            os.close(theirs)

    def __repr__(self) -> str:
        return f"<LocalNode {self.name} {self.address if self.is_running else 'has ended'}>"

    @property
    def pid(self) -> int:
        """The process id of the daemon."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Return once it serves. Raises HandoffError if it does not come to that; then nothing is left of it."""
        with self._pipe as pipe:
            said = (
                pipe.read() if _is_readable(pipe.fileno(), _STARTS_WITHIN_S) else b""
            ) or b'{"error": "what it said is on stderr"}'
        facts = json.loads(said)
        if "error" in facts:
            self.kill()
            raise HandoffError(f"node {self.name!r} could not be started: {facts['error']}")
        self.address = facts["address"]

    def stop(self) -> None:
        """Have it leave as after SIGTERM: what runs there ends, its values move to other nodes. Returns when it has left."""
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would. Returns when nothing of it is left, nor of its workers."""
        # Its children end after it, the last of them when it has removed the node's files.
        children = _watched(self._children())
        self._process.kill()
        self._process.wait()
        for child in children:
            _is_readable(child, _ENDS_WITHIN_S)
            os.close(child)

    def ask_to_leave(self) -> None:
        """Have it leave as `stop` does, without waiting for that."""
        self._process.terminate()

    def has_ended_within(self, seconds: float) -> bool:
        """Wait until it has ended by itself, so long at most."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ask_to_end(self) -> None:
        """Have it end at once, whatever runs there; `wait_until_ended` is to follow."""
        # The second signal takes back the patience of the first; two of the same could be merged into one.
        for number in (signal.SIGTERM, signal.SIGINT):
            self._process.send_signal(number)

    def wait_until_ended(self) -> None:
        """Return when it has ended, if need be by a kill."""
        self._pipe.close()
        try:
            self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _children(self) -> list[int]:
        threads = Path(f"/proc/{self.pid}/task").glob("*/children")
        with suppress(FileNotFoundError):
            return [int(pid) for thread in threads for pid in thread.read_text().split()]
        return []


def _is_readable(descriptor: int, within_s: float) -> bool:
    # select() can't wait for those beyond 1023, which apps with many connections have.
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(within_s * 1000))


def _watched(pids: list[int]) -> list[int]:
    """Descriptors that become readable when these processes end."""
    descriptors: list[int] = []
    for pid in pids:
        with suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(pid))
    return descriptors


def _own_path() -> list[str]:
    """The module search path of this process, as absolute paths: the node may have another working directory."""
    return [str(Path(entry).absolute()) for entry in sys.path if isinstance(entry, str)]
