"""Joining by seeds of which some are dead, stand still, or come late, with real processes."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.cli.command import handoff, handoff_started
from tests.daemons import Daemons, environment

pytestmark = pytest.mark.processes

APP = "import handoff_actors as h; d = h.new(); d.call(sum, [1, 2]); print(list(h.run_sync(d).results.values()))"
#: Less than what it takes to give up a seed.
SOON_S = 4.0
WAIT = ("--join-wait", "30")


@pytest.fixture
def free_seed() -> str:
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def seeds(daemons: Daemons, mute_seed: str, free_seed: str) -> Iterator[str]:
    """Four seeds, the last of which is well; one has just been stopped, and so is a member still."""
    well, stopped = daemons.cluster(2, "--cpu", "1")
    stopped.process.send_signal(signal.SIGSTOP)
    yield f"{mute_seed},{free_seed},{stopped.address},{well.address}"
    stopped.process.send_signal(signal.SIGCONT)


def app(**variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", APP],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_nobody_waits_for_seeds_that_are_silent_while_another_is_well(daemons: Daemons, seeds: str) -> None:
    began = time.monotonic()
    newcomer = daemons.start("--name", "n3", variables={"HANDOFF_SEEDS": seeds})
    times = [time.monotonic() - began]
    began = time.monotonic()
    listed = handoff("nodes", HANDOFF_SEEDS=seeds)
    times.append(time.monotonic() - began)
    began = time.monotonic()
    out, said = app(HANDOFF_SEEDS=seeds).communicate(timeout=30)
    times.append(time.monotonic() - began)

    assert (listed.returncode, listed.stderr) == (0, "")
    assert "n3" in listed.stdout
    assert (out, said) == ("[3]\n", "")
    assert max(times) < SOON_S, times
    assert newcomer.terminate() == 0


def test_seeds_that_are_not_up_yet_are_waited_for(daemons: Daemons, free_seed: str) -> None:
    waiting = app(HANDOFF_SEEDS=free_seed, HANDOFF_JOIN_WAIT="30")
    with handoff_started("nodes", "--join", free_seed, *WAIT) as looking:
        with handoff_started(
            "node", "--name", "early", "--listen", "tcp://127.0.0.1:0", "--join", free_seed, *WAIT
        ) as early:
            late = daemons.start("--name", "late", "--listen", free_seed)

            assert early.stdout is not None
            assert early.stdout.readline().startswith("node early serves at")
            assert "late" in looking.communicate(timeout=30)[0]
            assert waiting.communicate(timeout=30) == ("[3]\n", "")
            early.terminate()
        assert early.returncode == 0
    assert late.terminate() == 0


def test_node_that_finds_only_itself_has_not_joined(free_seed: str) -> None:
    alone = handoff("node", "--listen", free_seed, "--join", free_seed)

    assert alone.returncode == 1
    assert f"only this node itself answers at {free_seed}" in alone.stderr


def test_node_that_may_be_alone_serves_where_only_it_answers_at_its_seed(
    daemons: Daemons, free_seed: str
) -> None:
    alone = daemons.start("--listen", free_seed, "--join", free_seed, "--may-be-alone", "--cpu", "1")

    out, said = app(HANDOFF_SEEDS=alone.address).communicate(timeout=30)

    assert (out, said) == ("[3]\n", "")
    assert alone.log().count("serves alone so far") == 1
    assert alone.terminate() == 0


def test_node_that_may_be_alone_finds_one_that_comes_later(daemons: Daemons, free_seed: str) -> None:
    daemons.start("--name", "early", "--join", free_seed, "--may-be-alone", "--cpu", "1")
    daemons.start("--name", "late", "--listen", free_seed, "--cpu", "1")

    deadline = time.monotonic() + 20
    while "early" not in (listed := handoff("nodes", "--join", free_seed)).stdout:
        assert time.monotonic() < deadline, listed.stderr
