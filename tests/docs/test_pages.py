"""Every snippet of every page is run: here, or by tests of its own."""

import re
from pathlib import Path

import pytest

from handoff_actors.cli.node import node
from tests.daemons import Daemons
from tests.docs.fences import fences
from tests.docs.pages import DOCS
from tests.docs.reader import read_page

TESTS = Path(__file__).parents[1]
#: Languages that can be run; the other fences are output, or in other languages.
RUN = {"python", "sh", "ini"}
#: By page, what its snippets take for granted.
READ = {
    "cli.md": "",
    "deployment.md": "",
    "durable.md": "import handoff_actors as handoff\ndag = handoff.new()\ndag.call(int, '7', id='seven')",
    "errors.md": "",
    "from-dask.md": "",
    "from-elixir.md": "",
    "index.md": "",
    "running.md": "",
    "tutorial.md": "",
}
JOBS = """
import handoff_actors as handoff

dag = handoff.new()
dag.call(sum, [1, 2], id="sum")
"""


@pytest.mark.processes
@pytest.mark.parametrize("page", READ)
async def test_a_reader_sees_what_the_page_says(
    page: str, tmp_path: Path, daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "path" / "to"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "jobs.py").write_text(JOBS, encoding="utf-8")

    await read_page(page, tmp_path, daemons, READ[page])


def test_the_service_gives_options_that_there_are() -> None:
    [unit] = [fence.text for fence in fences("deployment.md") if fence.language == "ini"]
    options = re.findall(r" (--[\w-]+)", unit)

    known = {option for parameter in node.params for option in parameter.opts}

    assert options
    assert known.issuperset(options)


def test_no_page_is_left_out() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    used = set(re.findall(r'snippets\("([\w/-]+\.md)", "(\w+)"\)', tests))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    missing = {
        (page, fence.language)
        for page in pages - READ.keys()
        for fence in fences(page)
        if fence.language in RUN and (page, fence.language) not in used
    }

    assert not missing
