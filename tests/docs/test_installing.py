"""The commands that install the library work, and stand in one place."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from handoff_actors.extras import command, how_to_install
from tests.docs.pages import DOCS, snippets

ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: The library as it is called by those who install it from a clone, or by its name.
INSTALLS = re.compile(r"pip install [^\n`]*?(\.(?:\[[\w,]+\])?['\"]?(?=[\s`;,])|handoff-actors)")
IN_A_CLONE = re.compile(r"\.(\[[\w,]+\]')?")
#: The files that a release changes.
WITH_NAME = {"docs/installing.md", "src/handoff_actors/extras.py"}
TOLD_IN = ("README.md", "docs", "examples", "benchmarks", "src", "CONTRIBUTING.md")


def told() -> dict[str, str]:
    """The text of all files that say how to install something, by their paths."""
    places = [ROOT / name for name in TOLD_IN]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*.*"))]
    return {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
        for file in files
        if file.suffix in {".md", ".py"}
    }


def test_only_one_page_and_one_module_install_the_library_by_its_name() -> None:
    named = {
        path for path, text in told().items() for what in INSTALLS.findall(text) if what == "handoff-actors"
    }

    assert named <= WITH_NAME
    assert {path for path, text in told().items() if re.search(r"handoff-actors\[", text)} <= WITH_NAME


def test_everything_else_installs_it_from_a_clone() -> None:
    found = [
        what for path, text in told().items() if path not in WITH_NAME for what in INSTALLS.findall(text)
    ]

    assert len(found) >= 6
    assert [what for what in found if not IN_A_CLONE.fullmatch(what)] == []


def test_every_extra_is_told_of_and_there() -> None:
    page = (DOCS / "installing.md").read_text(encoding="utf-8")
    table = page.partition("| extra | for |")[2].partition("\n\n")[0]
    asked_for = {
        extra
        for text in told().values()
        for extras in re.findall(r"how_to_install\('(\w+)'\)|\[([a-z,]+)\]'", text)
        for extra in "".join(extras).split(",")
    }

    extras = set(PROJECT["optional-dependencies"])
    assert {
        name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    } == extras
    assert asked_for <= extras


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        (None, "'handoff-actors[plot]'"),
        ({"url": "file:///srv/a%20b/clone", "dir_info": {}}, "'/srv/a b/clone[plot]'"),
        ({"url": "file:///clone", "dir_info": {"editable": True}}, "-e '/clone[plot]'"),
        (
            {
                "url": "https://git.example/h",
                "vcs_info": {"vcs": "git", "commit_id": "a1b2", "requested_revision": "v1"},
            },
            "'handoff-actors[plot] @ git+https://git.example/h@a1b2'",
        ),
        (
            {"url": "file:///h-1-py3-none-any.whl", "archive_info": {}},
            "'handoff-actors[plot] @ file:///h-1-py3-none-any.whl'",
        ),
    ],
)
def test_an_error_takes_the_library_from_where_it_came(origin: dict[str, object] | None, wanted: str) -> None:
    assert command("plot", origin) == f"pip install {wanted}"


def test_pip_accepts_the_commands_of_the_page_and_the_path_of_a_clone(tmp_path: Path) -> None:
    in_a_clone, _ = snippets("installing.md", "sh")
    commands = [*in_a_clone.splitlines(), f"pip install {shlex.quote(f'{ROOT}[plot]')}"]
    asked_for = [what for line in commands for what in shlex.split(line)[2:]]
    report = tmp_path / "report.json"
    # There may be no network, and the suite runs where what they need is.
    options = [
        "--dry-run",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--ignore-installed",
        "--quiet",
        "--report",
    ]

    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(report), *asked_for],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr
    [installed] = json.loads(report.read_text(encoding="utf-8"))["install"]
    assert installed["metadata"]["name"] == "handoff-actors"


def test_an_error_about_a_missing_package_ends_with_a_command() -> None:
    assert re.fullmatch(r"pip install (-e )?\S.*\[plot\].*", how_to_install("plot"))
