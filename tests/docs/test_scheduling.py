"""The commands of docs/scheduling.md are run, for one short family."""

import subprocess
import sys

import pytest

from tests.docs.pages import DOCS, snippets

[SHELL] = snippets("scheduling.md", "sh")


@pytest.mark.parametrize("command", SHELL.splitlines())
def test_command_prints_its_table(command: str) -> None:
    program, *words = command.split()

    done = subprocess.run(
        [sys.executable, *words, "fork-join", "--seeds", "1"],
        check=True,
        capture_output=True,
        text=True,
        cwd=DOCS.parent,
    )

    assert program == "python"
    assert "| fork-join | 4 |" in done.stdout
