"""The command line of `handoff alloc`. Allocations themselves: tests/deploy/slurm/test_allocation.py."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from handoff_actors.cli.group import main


def complaint(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["alloc", "slurm", "--join-file", "/nowhere/join", *arguments])
    assert done.exit_code == 2
    return done.output


@pytest.mark.parametrize("text", ["0", "0..0", "3..2", "some", "1..", "-1"])
def test_range_without_a_node_is_refused(text: str) -> None:
    assert "--nodes" in complaint("--nodes", text)


def test_mistakes_are_found_before_slurm_is_asked() -> None:
    assert "say 60m or 60s" in complaint("--time", "60")
    assert "counts in minutes" in complaint("--time", "30s")
    assert "sbatch can't be given -N2" in complaint("--", "-N2")
    assert "cpu" in complaint("--cpu", "-1")


def test_where_slurm_is_not_the_error_says_so_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    done = CliRunner().invoke(main, ["alloc", "slurm"])

    assert (done.exit_code, done.output) == (
        1,
        "Error: sbatch: not found here. Run this where jobs may be submitted, on a login node\n",
    )
    assert list(tmp_path.iterdir()) == []
