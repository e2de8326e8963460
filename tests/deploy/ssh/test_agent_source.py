"""The agent runs where there is no handoff_actors, from one line of text."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from handoff_actors.deploy.ssh import agent_source, remote
from handoff_actors.deploy.ssh.agent_source import agent, first_words, second_step
from handoff_actors.deploy.ssh.remote.interpreters import NAMES

PLACE = Path(remote.__file__).parent
MODULES = sorted(path.stem for path in PLACE.glob("*.py") if path.stem != "__init__")


def imports_of(module: str) -> list[str]:
    tree = ast.parse((PLACE / f"{module}.py").read_text(encoding="utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return names + [
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    ]


def test_every_module_is_sent_behind_those_that_it_imports() -> None:
    sent = agent_source._MODULES
    assert sorted(sent) == MODULES

    for place, module in enumerate(sent):
        own = [name for name in imports_of(module) if name.startswith("handoff_actors")]
        assert set(own) <= {f"{remote.__name__}.{earlier}" for earlier in sent[:place]}


@pytest.mark.parametrize("module", MODULES)
def test_module_needs_the_standard_library_only(module: str) -> None:
    others = {name.partition(".")[0] for name in imports_of(module)} - {"handoff_actors"}

    assert others <= sys.stdlib_module_names


def test_agent_runs_alone_and_ends_when_nobody_asks_it_for_anything() -> None:
    asked = subprocess.run(
        [sys.executable, "-I", "-S", "-c", agent().rstrip(), "marker"],
        input="",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "", "")


def test_first_words_mean_the_same_to_every_shell() -> None:
    words = first_words("marker")
    quoted = words.split("'")

    assert len(quoted) == 3
    assert not set("!\\\n") & set(words)
    # csh takes no longer ones.
    assert len(words) < 1000
    assert "\n" not in second_step("marker")


def test_shell_looks_for_the_same_names_as_the_agent() -> None:
    assert f"set -- {' '.join(NAMES)};" in second_step("marker")
