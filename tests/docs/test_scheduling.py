"""The commands of docs/scheduling.md are run, for one short family."""

import subprocess
import sys

import pytest

import handoff_actors as handoff
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


def test_every_attribute_of_a_node_has_its_row() -> None:
    table = (DOCS / "scheduling.md").read_text(encoding="utf-8").partition("| attribute of a node |")[2]

    public = [name for name in vars(handoff.NodeView) if not name.startswith("_")]
    assert [name for name in public if f"`{name}`" not in table.partition("\n\n")[0]] == []
