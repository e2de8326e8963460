"""Goes through a page as its reader would, and compares what is seen with what the page says.

- A block whose title is the name of a file is written to that file.
- Other Python is pasted into a fresh notebook, one block after the other: `await` may stand anywhere, and nothing is there
  but what earlier blocks of the page have made.
- Shell commands are given one by one. `handoff node` becomes a daemon at a free port, which stands for the one on the
  page wherever that occurs from then on; `export` lasts until the end of the page.
- A block of `text` after any of these is what it prints; "..." in it stands for anything, and blanks don't count. If
  its title is "for example", numbers may be others, with other units.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.daemons import Daemons, environment
from tests.docs.fences import NOTHING, Fence, fences

LISTENS_AT = "tcp://127.0.0.1:7070"
COMMAND_S = 40.0
NOTEBOOK = Path(__file__).with_name("notebook.py")
EXAMPLE = "for example"
NUMBER = re.compile(r"\d[\d.]*(?: (?:us|ms|s|B|KB|MB)\b)?")
#: The suite runs where that has been done, and may have no network.
INSTALLS = ("pip", "install")


class Notebook:
    """A notebook in a process of its own. Use it with `with`; it has to end well."""

    def __init__(self, folder: Path) -> None:
        # -P: nothing of the tests can be imported.
        command = [sys.executable, "-P", str(NOTEBOOK)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, cwd=folder, env=environment()
        )

    def run(self, cell: str) -> str:
        """Run a cell, and return what it prints. Fails with its traceback if it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(cell), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, f"{cell}\n{answer['error']}"
        return str(answer["printed"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        with self._process:
            pass
        assert kind is not None or self._process.returncode == 0


class Reader:
    """One reader, with a folder, a notebook and three terminals."""

    def __init__(self, folder: Path, daemons: Daemons, notebook: Notebook) -> None:
        self._folder = folder
        self._daemons = daemons
        self._notebook = notebook
        self._variables = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        #: By what the page calls them, where nodes really are.
        self._addresses: dict[str, str] = {}

    def read(self, page: str, languages: Collection[str]) -> None:
        """Do all that a page says in these languages."""
        for fence, following in pairwise([*fences(page), NOTHING]):
            if fence.language not in languages or fence.is_part:
                continue
            seen = self._do(fence)
            if following.language == "text":
                compare(page, fence, following, seen)

    def _do(self, fence: Fence) -> str:
        if Path(fence.title).suffix:
            (self._folder / fence.title).write_text(fence.text, encoding="utf-8")
            return ""
        if fence.language == "python":
            return self._notebook.run(self._real(fence.text))
        return "".join([self._command(line) for line in fence.text.splitlines()])

    def _command(self, line: str) -> str:
        words = shlex.split(line, comments=True)
        if not words or tuple(words[:2]) == INSTALLS:
            return ""
        if words[0] == "export":
            self._variables |= dict(word.split("=", 1) for word in shlex.split(self._real(line))[1:])
            return ""
        if words[:2] == ["handoff", "node"]:
            self._start_node(words[2:])
            return ""
        return run_command(self._real(line), self._folder, self._variables)

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


def compare(page: str, fence: Fence, wanted: Fence, seen: str) -> None:
    """Fail unless the block behind a fence is what that has printed."""
    shown = (wanted.text, seen)
    if wanted.title == EXAMPLE:
        shown = (NUMBER.sub("#", wanted.text), NUMBER.sub("#", seen))
    matches = OutputChecker().check_output(*shown, ELLIPSIS | NORMALIZE_WHITESPACE)
    assert matches, f"{page}:\n{fence.text}\nprints\n{seen}\nand not\n{wanted.text}"


def read_page(page: str, languages: Collection[str], folder: Path, daemons: Daemons) -> None:
    """Go through a page in this folder."""
    with Notebook(folder) as notebook:
        Reader(folder, daemons, notebook).read(page, languages)


def paste_programs(page: str, folder: Path) -> None:
    """Paste the files of a page, too, into a fresh notebook."""
    with Notebook(folder) as notebook:
        for fence in fences(page):
            if fence.language == "python" and fence.title.endswith(".py"):
                notebook.run(fence.text)
