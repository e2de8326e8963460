"""The snippets in docs/examples.md are parts of the examples, and its commands do as the page says."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.docs.fences import PART_OF, Fence, fences
from tests.docs.pages import PAGES, snippets
from tests.examples.programs import EXAMPLES, running
from tests.examples.test_fastapi_service import address_of

SOURCES = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")}
INSTALLING, ASKING = snippets("examples.md", "sh")


@pytest.mark.parametrize("part", [fence for page in PAGES for fence in fences(page) if fence.is_part])
def test_a_part_of_a_program_is_in_that_program(part: Fence) -> None:
    assert part.text in SOURCES[part.title.removeprefix(PART_OF)]


def test_every_example_is_told_of() -> None:
    programs = [line.removeprefix("python examples/") for line in INSTALLING.splitlines()[1:]]

    assert {*programs, "branching_dag.py"} == set(SOURCES)


@pytest.mark.processes
def test_the_service_answers_what_it_is_asked(tmp_path: Path) -> None:
    with running("fastapi_service.py", "--port", "0", directory=tmp_path) as service:
        commands = ASKING.replace("http://127.0.0.1:8000", address_of(service)).splitlines()
        estimate, job, nodes = (
            json.loads(subprocess.check_output([*shlex.split(command), "--silent"], timeout=30))
            for command in commands
        )

    assert estimate["answer"] == pytest.approx(3.14, abs=0.1)
    assert list(job) == ["id"]
    assert [list(node) for node in nodes.values()] == [["cpu", "is_idle"]]
