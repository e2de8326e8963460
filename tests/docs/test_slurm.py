"""The page deployment/slurm.md: its commands, with a real Slurm."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.deploy.slurm.allocations import allocation
from tests.docs.fences import fences
from tests.slurm import PATH, SlurmCluster, why_not

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not()), reason=why_not())]

PAGE = "deployment/slurm.md"
#: The page's idle nodes end after minutes, and machines here have fewer cores than they say.
HERE = {"--idle": "2s"}
MORE = ("--cpu", "4", "--poll", "0.5")


def options_on_the_page() -> list[str]:
    """The options of the page's `handoff alloc slurm`, without the directory, which the app names, too."""
    commands = [
        shlex.split(fence.text) for fence in fences(PAGE) if fence.text.startswith("handoff alloc slurm")
    ]
    [[*_, directory]] = [command[:5] for command in commands]
    assert [f"HANDOFF_JOIN_FILE={directory} python app.py\n"] == [
        fence.text for fence in fences(PAGE) if fence.text.startswith("HANDOFF_JOIN_FILE")
    ]
    words = commands[0][5:]
    return [HERE.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def test_nodes_on_demand_come_for_a_run_outlive_a_cancelled_job_and_end() -> None:
    with (
        SlurmCluster() as cluster,
        allocation(cluster, "demand", *MORE, *options_on_the_page()) as made,
    ):
        assert "serves at tcp://" in made.said()
        assert (
            f"nodes of cpu 4, memory 4000 each, for apps with HANDOFF_JOIN_FILE={made.directory}"
            in made.said()
        )
        assert (made.members(), cluster.jobs()) == (["alloc-slurm"], {})
        app = made.app(2, 1.5)
        made.until(lambda: made.said().count("job joined") == 2)
        first, _ = sorted(cluster.jobs())

        cluster.ask("scancel", first)

        out, err = app.communicate(timeout=40)
        assert json.loads(out or "[]") == [0, 1], f"{err}\n{made.said()}"
        made.until(lambda: not cluster.jobs())
        assert made.said().count("job submitted") == 2
        made.end()
        assert f"job ended soon after its node joined job='{first}'" in made.said()
        assert list(made.directory.glob("*.node")) == []


def test_nodes_in_one_job_serve_an_app_and_leave() -> None:
    blocks = [fence for fence in fences(PAGE) if fence.title]
    files = {fence.title: fence.text for fence in blocks if Path(fence.title).suffix}
    [commands] = [fence.text for fence in blocks if fence.title == "on the login node"]
    with SlurmCluster() as cluster:
        for name, text in files.items():
            (cluster.directory / name).write_text(text, encoding="utf-8")
        path = f"{Path(sys.executable).parent}{os.pathsep}{PATH}"

        printed = cluster.ask("bash", "-ec", commands, variables={"PATH": path})

        cluster.wait_until(lambda: not cluster.jobs())
        nodes = cluster.read("nodes-1.log")
        assert printed.splitlines()[-1] == "140"
        assert nodes.count(" serves at ") == nodes.count("draining") == 2
        assert "Killed" not in nodes
        assert list(cluster.directory.glob("cluster-*")) == []
