"""Completion in shells: the scripts that they load, and what these are answered."""

import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from handoff_actors.cli.group import main
from tests.cli.command import handoff
from tests.daemons import HANDOFF, environment

COMPLETE = "_HANDOFF_COMPLETE"


@pytest.fixture(autouse=True)
def within(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the user's directory."""
    monkeypatch.chdir(jobs)


def completions(*words: str) -> list[tuple[str, str]]:
    """The answer for the last of these words, as types and values."""
    completer = ShellComplete(main, {}, "handoff", COMPLETE)
    return [(item.type, item.value) for item in completer.get_completions([*words[:-1]], words[-1])]


def plain(*values: str) -> list[tuple[str, str]]:
    return [("plain", value) for value in values]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["no"], plain("node", "nodes")),
        (["run", "--re"], plain("--report")),
        (["render", "--format", ""], plain("mermaid", "dot", "svg")),
        (["run", "--strategy", "l"], plain("load_balanced", "locality")),
        (["run", "jo"], [("file", "jo")]),
        (["node", "--key-file", "clu"], [("file", "clu")]),
        (["run", "jobs:fi"], plain("jobs:fine")),
        (["run", "jobs:D"], plain("jobs:DAG_OBJECT")),
        (["run", "jobs.py:ev"], plain("jobs.py:eventual")),
        # As bash has it.
        (["run", "jobs", ":", "fi"], plain("fine")),
        (["render", "jobs.py", ":", "si"], plain("sized")),
        (["run", "jobs:sized", "n"], []),
        (["run", "nowhere:d"], []),
        (["run", "broken:d"], []),
    ],
)
def test_commands_options_and_names_are_completed(words: list[str], expected: list[tuple[str, str]]) -> None:
    Path("broken.py").write_text("dag = (")

    assert completions(*words) == expected


@pytest.mark.processes
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script(shell: str) -> None:
    script = handoff(_HANDOFF_COMPLETE=f"{shell}_source")

    assert script.returncode == 0, script.stderr
    assert f"{shell}_complete" in script.stdout


@pytest.mark.processes
def test_bash_completes_a_dag() -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    program = Path(HANDOFF[0]).with_name("handoff")
    script = f"""
        eval "$({COMPLETE}=bash_source {program})"
        COMP_WORDS=(handoff run jobs : si) COMP_CWORD=4
        _handoff_completion {program}
        echo "${{COMPREPLY[*]}}"
    """

    done = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, text=True, check=False, timeout=30
    )

    assert (done.stdout, done.returncode) == ("sized\n", 0), done.stderr
