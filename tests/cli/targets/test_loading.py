"""What MODULE:DAG and arguments lead to, and what goes wrong on the way."""

import sys
from pathlib import Path

import click
import pytest

from handoff_actors.cli.output.failures import TracedFailure
from handoff_actors.cli.targets.loading import load_dag


@pytest.fixture(autouse=True)
def within(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the user's directory, and forget the modules afterwards."""
    monkeypatch.chdir(jobs)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.parametrize(
    ("target", "arguments", "size"),
    [
        ("jobs:fine", [], 61),
        ("jobs:DAG_OBJECT", [], 61),
        ("jobs:sized", ["4"], 5),
        ("jobs:sized", ["n=4", "tag=few"], 5),
        ("jobs:eventual", ["3"], 4),
        ("jobs:Flows.made", [], 4),
        ("jobs.py:Flows.made", ["n=1"], 2),
    ],
)
def test_a_target_is_a_dag_or_a_function_that_makes_one(target: str, arguments: list[str], size: int) -> None:
    assert len(load_dag(target, arguments, for_cluster=False).functions) == size


@pytest.mark.parametrize(
    ("target", "arguments", "complaint"),
    [
        ("jobs", [], "is not MODULE:DAG"),
        ("nowhere:dag", [], "there is no module 'nowhere'"),
        ("nowhere.py:dag", [], "there is no file nowhere.py"),
        ("jobs:nothing", [], "has no 'nothing'; there are point, total, fail, "),
        ("jobs:Flows.nothing", [], "has no 'Flows.nothing'"),
        ("jobs:NOT_A_DAG", [], "jobs:NOT_A_DAG is not a DAG, nor a function that returns one, but int 3"),
        ("jobs:nothing_returned", [], "is not a DAG, nor does it return one, but None"),
        ("jobs:DAG_OBJECT", ["5"], "it takes no arguments, such as '5'"),
        ("jobs:sized", [], "missing a required argument: 'n'. The signature is sized(n: int, tag='all')"),
        ("jobs:sized", ["five"], "n='five' is no int"),
    ],
)
def test_wrong_use_is_told(target: str, arguments: list[str], complaint: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        load_dag(target, arguments, for_cluster=False)

    assert complaint in raised.value.message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("import sys\n\nsys.exit(3)\n", ["line 3, in <module>", "SystemExit: 3"]),
        ("def f(:\n", ["line 1", "SyntaxError: "]),
        ("import broken.part\n", ["line 1, in <module>", "No module named 'broken.part'"]),
        (
            "import handoff_actors\ndag = handoff_actors.DAG('d')\ndag.call(len, id='a')\ndag.call(len, id='a')",
            ["line 4, in <module>", "the DAG already has a function 'a'"],
        ),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error\n",
            ["line 2, in <module>", "direct cause", "line 4, in <module>"],
        ),
        (
            "raise ExceptionGroup('two', [ValueError('\\x1b[2J'), TypeError()])\n",
            ["ExceptionGroup: two", "ValueError: "],
        ),
    ],
)
def test_errors_of_a_module_show_the_users_frames_only(text: str, shown: list[str]) -> None:
    Path("broken.py").write_text(text)

    with pytest.raises(TracedFailure) as raised:
        load_dag("broken:dag", for_cluster=False)

    traceback = raised.value.traceback or ""
    assert raised.value.message == "module 'broken' can't be imported"
    places = [traceback.index(part) for part in shown]
    assert places == sorted(places)
    assert all("broken.py" in line for line in traceback.splitlines() if line.strip(" |").startswith("File"))


def test_errors_do_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.py").write_text("raise ValueError('\\x1b[2J')\n")

    with pytest.raises(TracedFailure) as raised:
        load_dag("broken:dag", for_cluster=False)
    raised.value.show()

    assert capsys.readouterr().err.endswith("ValueError: \\x1b[2J\n")


@pytest.mark.parametrize("target", ["jobs:broken", "jobs.py:broken"])
def test_errors_of_a_function_show_the_users_frames_only(target: str) -> None:
    with pytest.raises(TracedFailure) as raised:
        load_dag(target, for_cluster=False)

    lines = (raised.value.traceback or "").splitlines()
    assert raised.value.message == f"{target} has failed"
    assert [line.split(", ")[-1] for line in lines if line.startswith("  File")] == ["in broken", "in fail"]
