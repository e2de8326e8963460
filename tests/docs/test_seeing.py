"""Every snippet of docs/seeing.md is run, as it stands there."""

import re
import textwrap
from subprocess import CompletedProcess

import pytest

from handoff_actors import events
from tests.docs.pages import DOCS, snippets
from tests.docs.programs import run_program

_, TRAINING, REPORTING, WATCHED = snippets("seeing.md", "python")

PROGRAM = """
import asyncio
import handoff_actors as handoff

async def main():
    global dag
    await handoff.register_local_node({{"cpu": 1}}, name="n1")
{body}

asyncio.run(main())
"""


def run_parts(*parts: str) -> CompletedProcess[str]:
    return run_program(PROGRAM.format(body=textwrap.indent("\n".join(parts), "    ")))


@pytest.mark.processes
def test_the_snippets_do_what_the_page_says() -> None:
    done = run_parts(TRAINING, WATCHED)

    said = (DOCS / "seeing.md").read_text(encoding="utf-8")
    printed, logged = "[n1 fold-1] fold 1", "INFO:model:[n1 fold-1] loss 0.50"
    assert f"{printed}\n{logged}\n" in said
    # One of each for each of the two runs.
    assert done.stdout.count(f"{printed}\n") == 2
    assert done.stderr.count(f"{logged}\n") == 2
    assert re.search(r"^fold-1 took [\d.e-]+$", done.stdout, re.MULTILINE)
    assert "training finished\n" in done.stdout


@pytest.mark.processes
def test_functions_report_as_the_page_says() -> None:
    done = run_parts(REPORTING)

    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("fit {")] == [
        f"fit {{'epoch': {epoch}, 'loss': {1 / (1 + epoch)}}}" for epoch in range(3)
    ]
    assert "fit 3 of 3" in lines


def test_every_event_has_its_row() -> None:
    page = (DOCS / "seeing.md").read_text(encoding="utf-8")
    kinds = {kind.__name__: kind.kind for kind in events.RunEvent.__subclasses__()}

    table = page.partition("| event | `kind` |")[2]
    assert [
        name for name, kind in kinds.items() if f"`{name}`" not in table or f"`{kind}`" not in table
    ] == []
