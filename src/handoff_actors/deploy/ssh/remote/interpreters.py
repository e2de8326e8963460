"""The choice of the Python that runs a node."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from handoff_actors.deploy.ssh.remote.channel import CommandLink

#: Of the names that interpreters have, those that are late enough for nodes. The shell's part has them, too.
NAMES = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python")
_OLDEST = (3, 11)
#: The interpreter says what it is, before it says what it can import: a broken installation may end it.
_QUESTION = """
import importlib.util, json, sys, sysconfig
packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
facts = {"python": sys.version.split()[0], "abi": sysconfig.get_config_var("SOABI") or "", "packages": packages}
print(json.dumps(facts), flush=True)
if importlib.util.find_spec("handoff_actors") is None:
    sys.exit()
try:
    if sys.argv[1:]:
        import handoff_actors.cli.node
    lacking = [name for name in ("click", "cloudpickle", "msgpack", "uvloop", "zmq") if importlib.util.find_spec(name) is None]
    if lacking:
        raise ImportError(f"it needs {', '.join(lacking)}")
    from handoff_actors.wire.messages.base import PROTOCOL
    from handoff_actors.wire.versions import VERSION
    found = {"version": VERSION, "protocol": PROTOCOL}
except Exception as error:
    found = {"broken": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
"""
#: Network file systems may take long to load a package for the first time.
_ANSWER_S = 60.0
_LOOKS_EVERY_S = 0.2


class Interpreter(NamedTuple):
    """A Python, and the handoff_actors that it has."""

    path: str
    python: str
    #: Equal for interpreters that can load the same extension modules.
    abi: str
    #: The directories of the packages that are installed for it.
    packages: Sequence[str] = ()
    version: str | None = None
    protocol: int | None = None
    #: Why its handoff_actors can't be used.
    broken: str = ""

    @property
    def is_late_enough(self) -> bool:
        """True if nodes can run on it."""
        return tuple(int(part) for part in self.python.split(".")[:2] if part.isdigit()) >= _OLDEST

    @property
    def about(self) -> str:
        """The Python and its handoff_actors, for errors."""
        if self.broken:
            return f"the handoff_actors of Python {self.python} ({self.path}) can't be loaded: {self.broken}"
        if self.version is None:
            return f"Python {self.python} ({self.path}) has no handoff_actors"
        return (
            f"Python {self.python} ({self.path}) has handoff_actors {self.version} (protocol {self.protocol})"
        )


def interpreters(ours: Sequence[str], given: str) -> Iterator[str]:
    """Yield the interpreters to ask: the one that was given and then `ours`, else `ours` and all that are in the PATH."""
    if given:
        yield from (sys.executable, *ours)
        return
    paths = [Path(path) for path in (*ours, sys.executable, *filter(None, map(shutil.which, NAMES)))]
    # Links in different directories that lead to one file may be different environments.
    found: dict[tuple[Path, Path], Path] = {}
    for path in paths:
        found.setdefault((path.parent, path.resolve()), path)
    yield from map(str, found.values())


def asked(link: CommandLink, path: str, *, to_load: bool = False) -> Interpreter | None:
    """Ask an interpreter what it is, and has; None if it does not answer. Raises CommandGone.

    To find out whether a node can be loaded takes longer than to find all that it needs.
    """
    words = ["load"] if to_load else []
    with subprocess.Popen(  # noqa: S603 - this user's own programs
        [path, "-P", "-c", _QUESTION, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as asking:
        try:
            answer = _answer(link, asking)
        finally:
            asking.kill()
    facts: dict[str, object] = {}
    with suppress(ValueError):
        for line in answer.splitlines():
            facts |= json.loads(line)
    if "python" not in facts:
        return None
    # Where its answer was cut short, its import has ended it.
    return Interpreter(**facts | {"path": path})  # type: ignore[arg-type]


def _answer(link: CommandLink, asking: "subprocess.Popen[str]") -> str:
    left_s = _ANSWER_S
    while left_s > 0:
        with suppress(subprocess.TimeoutExpired):
            return asking.communicate(timeout=_LOOKS_EVERY_S)[0]
        link.pause(0.001)
        left_s -= _LOOKS_EVERY_S
    return ""
