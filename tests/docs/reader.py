"""Goes through a page as its reader would, and compares what is seen with what the page says.

- A block whose title is the name of a file is written to that file.
- Other Python is run, with `await` allowed anywhere. Blocks of the same title, or of none, see one another's names.
- Shell commands are given one by one. `handoff node` becomes a daemon at a free port, which stands for the one on the
  page wherever that occurs from then on; `export` lasts until the end of the page.
- A block of `text` after any of these is what it prints; "..." in it stands for anything, and blanks don't count. If
  its title is "for example", numbers may be others, with other units.
"""

import ast
import asyncio
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from itertools import pairwise
from pathlib import Path
from typing import Any

import handoff_actors as handoff
from tests.daemons import Daemons, environment
from tests.docs.fences import NOTHING, Fence, fences

LISTENS_AT = "tcp://127.0.0.1:7070"
COMMAND_S = 40.0
EXAMPLE = "for example"
NUMBER = re.compile(r"\d[\d.]*(?: (?:us|ms|s|B|KB|MB)\b)?")
#: The suite runs where that has been done, and may have no network.
INSTALLS = ("pip", "install")


class Reader:
    """One reader, with a folder and three terminals."""

    def __init__(self, folder: Path, daemons: Daemons) -> None:
        self._folder = folder
        self._daemons = daemons
        self._names: dict[str, dict[str, Any]] = {}
        self._variables = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        #: By what the page calls them, where nodes really are.
        self._addresses: dict[str, str] = {}

    async def read(self, page: str, given: str = "") -> None:
        """Do all that a page says; `given` is Python that its snippets take for granted."""
        if given:
            await self._python(Fence("python", "", given))
        for fence, following in pairwise([*fences(page), NOTHING]):
            seen = await self._do(fence)
            if following.language == "text":
                _compare(page, fence, following, seen)

    async def _do(self, fence: Fence) -> str:
        if Path(fence.title).suffix:
            (self._folder / fence.title).write_text(fence.text, encoding="utf-8")
            return ""
        match fence.language:
            case "python":
                return await self._python(fence)
            case "sh":
                return "".join([await self._command(line) for line in fence.text.splitlines()])
            case _:
                return ""

    async def _python(self, fence: Fence) -> str:
        # Functions belong to `__main__` as in a notebook, and so travel by value.
        names = self._names.setdefault(fence.title, {"__name__": "__main__"})
        code = compile(self._real(fence.text), "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with redirect_stdout(io.StringIO()) as printed:
            running = eval(code, names)
            if running is not None:
                await running
        return printed.getvalue()

    async def _command(self, line: str) -> str:
        words = shlex.split(line, comments=True)
        if not words or tuple(words[:2]) == INSTALLS:
            return ""
        if words[0] == "export":
            self._variables |= dict(word.split("=", 1) for word in shlex.split(self._real(line))[1:])
            return ""
        if words[:2] == ["handoff", "node"]:
            self._start_node(words[2:])
            return ""
        return await asyncio.to_thread(run_command, self._real(line), self._folder, self._variables)

    def _start_node(self, options: list[str]) -> None:
        address = options[options.index("--listen") + 1] if "--listen" in options else LISTENS_AT
        real = [self._real(option) for option in options]
        if "--listen" in options:
            real[options.index("--listen") + 1] = re.sub(r":\d+$", ":0", address)
        if "--key-file" in options:
            place = options.index("--key-file") + 1
            real[place] = str(self._folder / options[place])
        self._addresses[address] = self._daemons.start(*real, variables=self._variables).address

    def _real(self, text: str) -> str:
        for named, address in self._addresses.items():
            text = text.replace(named, address)
        return text


def run_command(line: str, folder: Path, variables: Mapping[str, str]) -> str:
    """Run a command in a shell; return its stdout."""
    done = subprocess.run(
        ["bash", "-c", line],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        cwd=folder,
        env=environment(**variables),
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def _compare(page: str, fence: Fence, wanted: Fence, seen: str) -> None:
    shown = (wanted.text, seen)
    if wanted.title == EXAMPLE:
        shown = (NUMBER.sub("#", wanted.text), NUMBER.sub("#", seen))
    matches = OutputChecker().check_output(*shown, ELLIPSIS | NORMALIZE_WHITESPACE)
    assert matches, f"{page}:\n{fence.text}\nprints\n{seen}\nand not\n{wanted.text}"


async def read_page(page: str, folder: Path, daemons: Daemons, given: str = "") -> None:
    """Go through a page, and end what it has started in this process."""
    try:
        await Reader(folder, daemons).read(page, given)
    finally:
        await handoff.shutdown()
