"""Every snippet of every page runs, from the page alone: here or, for some commands, in tests of their own."""

import re
from pathlib import Path

import pytest

from handoff_actors.cli.node import node
from tests.daemons import Daemons
from tests.docs.fences import Fence, fences
from tests.docs.pages import PAGES, README
from tests.docs.reader import paste_programs, read_page
from tests.integrations.engines.ray_machines import SETTINGS as RAY_SETTINGS

#: Pages whose commands need another machine, a clone or minutes, by the test that runs them.
COMMANDS_RUN_BY = {
    "README.md": "test_readme.py",
    "deployment/by-hand.md": "test_by_hand.py",
    "deployment/systemd.md": "test_systemd.py",
    "deployment/compose.md": "test_containers.py",
    "deployment/slurm.md": "test_slurm.py",
    "deployment/kubernetes.md": "test_containers.py",
    "deployment/ssh.md": "../deploy/ssh/test_page.py",
    "examples.md": "test_examples.py",
    "scheduling.md": "test_scheduling.py",
    "understanding.md": "test_understanding.py",
}
#: Pages whose programs need a library that not each Python has.
NEEDED = {"deployment/ray.md": "ray"}
#: The most snippets that are only parts of a program.
MOST_PARTS = 7
JOBS = """
import handoff_actors as handoff

dag = handoff.new()
dag.call(sum, [1, 2], id="sum")
"""


def pages_with(*languages: str) -> list[str]:
    """The pages with a block in any of these languages."""
    return [page for page in PAGES if any(fence.language in languages for fence in fences(page))]


def is_program(fence: Fence) -> bool:
    return fence.language == "python" and fence.title.endswith(".py")


@pytest.mark.processes
@pytest.mark.parametrize("page", [page for page in pages_with("python", "sh") if page != README])
def test_a_reader_sees_what_the_page_says(
    page: str, tmp_path: Path, daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page in NEEDED:
        pytest.importorskip(NEEDED[page], reason=f"{NEEDED[page]} has no wheels for this Python")
    # Nothing of earlier readers is cached.
    for name, value in {**RAY_SETTINGS, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    for folder in (tmp_path, tmp_path / "path" / "to"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "jobs.py").write_text(JOBS, encoding="utf-8")
    languages = {"python"} if page in COMMANDS_RUN_BY else {"python", "sh"}

    read_page(page, languages, tmp_path, daemons)


@pytest.mark.processes
@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_program, fences(page)))])
def test_programs_of_a_page_can_be_pasted_into_a_notebook(page: str, tmp_path: Path) -> None:
    paste_programs(page, tmp_path)


def test_few_snippets_are_parts_of_programs() -> None:
    """A block that can't be run alone is marked as `py`, with a title "part of" and the name of the example that has it."""
    found = [fence for page in PAGES for fence in fences(page)]

    assert {fence.is_part for fence in found if fence.language == "py"} == {True}
    assert {fence.language for fence in found if fence.is_part} == {"py"}
    assert len([fence for fence in found if fence.is_part]) <= MOST_PARTS


def test_the_services_give_options_that_there_are() -> None:
    units = [fence.text for fence in fences("deployment/systemd.md") if fence.language == "ini"]
    known = {option for parameter in node.params for option in parameter.opts}

    for unit in units:
        options = re.findall(r" (--[\w-]+)", unit)
        assert options
        assert known.issuperset(options)


def test_commands_that_have_tests_of_their_own_do() -> None:
    for page, name in COMMANDS_RUN_BY.items():
        test = (Path(__file__).parent / name).read_text(encoding="utf-8")

        assert page in pages_with("sh")
        assert page.removesuffix(".md").lower() in test.lower()
