import resource
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.command import handoff, handoff_started
from tests.daemons import Daemons

pytestmark = pytest.mark.processes


def test_ready_line_tells_name_address_and_offer() -> None:
    options = ("--name", "n1", "--cpu", "2", "--memory", "8000", "--resource", "gpu=1", "--workers", "1")
    with handoff_started("node", *options, "--listen", "tcp://127.0.0.1:0") as node:
        assert node.stdout is not None
        line = node.stdout.readline()
        node.terminate()
        # The node logs while it ends, which would fail if the pipe were closed already.
        _, said = node.communicate()

    name_and_address, _, offer = line.partition(": ")
    assert name_and_address.startswith("node n1 serves at tcp://127.0.0.1:")
    assert offer == "cpu 2, memory 8000, gpu 1, 1 worker\n"
    assert node.returncode == 0, said


#: Places of values: by default, and if this process may not mount anything.
STORES = [(), ("--store-dir", "/dev/shm")]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_leaves_nothing_behind(
    daemons: Daemons, number: signal.Signals, store: tuple[str, ...]
) -> None:
    daemon = daemons.start("--cpu", "2", *store)
    daemon.wait_for_workers(2)
    assert daemon.store.exists()

    status = daemon.stop(number)

    assert status == 0
    assert daemon.leftovers() == []


def test_told_to_stop_again_and_again_it_ends_in_good_order(daemons: Daemons) -> None:
    daemon = daemons.start("--cpu", "1")
    daemon.wait_for_workers(1)

    while daemon.process.poll() is None:
        daemon.process.send_signal(signal.SIGINT)

    assert "Traceback" not in daemon.log()
    assert daemon.stop(signal.SIGINT) in (0, -signal.SIGINT)
    assert daemon.leftovers() == []


@pytest.mark.parametrize("store", STORES)
def test_killed_it_leaves_nothing_behind(daemons: Daemons, store: tuple[str, ...]) -> None:
    daemon = daemons.start("--cpu", "2", *store)
    daemon.wait_for_workers(2)

    daemon.kill()

    assert daemon.leftovers() == []


def test_it_may_open_as_many_files_as_its_limit_allows(daemons: Daemons) -> None:
    daemon = daemons.start("--cpu", "1", prefix=("prlimit", "--nofile=256:2000"))

    assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE) == (2000, 2000)


def test_told_to_stop_it_lets_a_running_function_end(daemons: Daemons, jobs: Path) -> None:
    daemon = daemons.start("--cpu", "1")
    with handoff_started("run", "jobs:waiting", "--join", daemon.address, cwd=jobs) as run:
        assert run.stdout is not None
        assert "waiting in" in run.stdout.readline()

        daemon.process.terminate()
        daemon.wait_for_log("draining")
        (jobs / "gate").write_text("opened")
        results, _ = run.communicate()

    assert results == "wait = 'opened'\n"
    assert daemon.wait() == 0


def test_second_signal_ends_it_at_once(daemons: Daemons, jobs: Path) -> None:
    daemon = daemons.start("--cpu", "1", "--drain", "600")
    with handoff_started(
        "run", "jobs:waiting", "--join", daemon.address, "--max-retries", "0", cwd=jobs
    ) as run:
        assert run.stdout is not None
        assert "waiting in" in run.stdout.readline()

        daemon.process.terminate()
        daemon.wait_for_log("draining")
        status = daemon.terminate()
        run.kill()

    assert status == 0
    assert daemon.leftovers() == []


def test_address_beyond_loopback_is_refused_in_one_line() -> None:
    refused = handoff("node", "--listen", "tcp://0.0.0.0:0", "--advertise", "example.org")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: refusing to listen at tcp://0.0.0.0:0")
    assert "--insecure" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_insecure_insists(daemons: Daemons) -> None:
    daemon = daemons.start("--listen", "tcp://0.0.0.0:0", "--advertise", "localhost", "--insecure")

    assert daemon.address.startswith("tcp://localhost:")


def test_port_in_use_is_said_in_one_line(daemons: Daemons) -> None:
    taken = daemons.start().address

    refused = handoff("node", "--listen", taken)

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Error: {taken} is in use by another process")
    assert refused.stderr.count("\n") == 1


def test_joining_nobody_is_said_in_one_line() -> None:
    refused = handoff("node", "--listen", "tcp://127.0.0.1:0", "--join", "tcp://127.0.0.1:9")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: no node answered at tcp://127.0.0.1:9")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--listen", "tcp://0.0.0.0:0", "--insecure"], "--advertise"),
        (["--join", "tcp://10.9.9.9:7070"], "can't reach a node at tcp://127.0.0.1:7070"),
        (["--listen", "localhost"], "one looks like tcp://10.0.0.1:7070"),
        (["--listen", "tcp://127.0.0.1:99999"], "ports go up to 65535"),
        (["--join", "tcp://0.0.0.0:7070"], "0.0.0.0 stands for all addresses of a machine"),
        (["--join", "tcp://127.0.0.1:0"], "nothing can be reached at port 0"),
        (["--advertise", "127.0.0.1:0"], "--advertise: "),
        (["--advertise", "tcp://127.0.0.1"], "leave tcp:// away"),
        (["--listen", "tcp://127.0.0.1:0", "--advertise", "127.0.0.1:9999"], "is not known yet"),
        (["--advertise", "[::1]"], "can't be reached at an IPv6 address"),
        (["--advertise", "a b"], "neither a host name nor an IP address"),
        (["--bus-port", "65536"], "0<=x<=65535"),
        (["--join-wait", "-1"], "'--join-wait'"),
        (["--join-wait", "soon"], "'--join-wait'"),
        (["--join-wait", "inf"], "'inf' is no number of seconds"),
        (["--resource", "gpu"], "one looks like gpu=2"),
        (["--cpu", "-1"], "resource 'cpu'"),
        (["--name", "n\x1b[2J"], "'n\\x1b[2J': a name is printable and has 1 to 255 bytes"),
        (["--name", ""], "'': a name is printable"),
        (["--name", "n" * 256], "a name is printable and has 1 to 255 bytes"),
        (
            [part for number in range(20) for part in ("--resource", f"{number:0100d}=1")],
            "more than 1500 bytes together",
        ),
        (["--resource", "g\u202epu=1"], "resource 'g\\u202epu': a name is printable and has 1 to 255 bytes"),
    ],
)
def test_wrong_use_is_told_with_the_remedy(options: list[str], complaint: str) -> None:
    refused = handoff("node", *options)

    assert refused.returncode == 2
    assert complaint in refused.stderr


@pytest.mark.parametrize(
    ("advertise", "address", "bus_host"),
    [
        ("::1", "tcp://[::1]:", "tcp://[::1]:"),
        ("[::1]:9999", "tcp://[::1]:9999", "tcp://[::1]:10000"),
    ],
)
def test_it_is_advertised_at_a_host_and_a_port_that_is_mapped(
    daemons: Daemons, advertise: str, address: str, bus_host: str
) -> None:
    everywhere = ("--insecure", "--listen", f"tcp://[::]:{two_free_ports()}")
    daemon = daemons.start(*everywhere, "--advertise", advertise)

    assert daemon.address.startswith(address)
    assert daemon.bus.startswith(bus_host)


def test_its_bus_has_the_port_after_its_own_unless_that_is_taken(daemons: Daemons) -> None:
    everywhere = ("--insecure", "--advertise", "127.0.0.1", "--listen")
    port = two_free_ports()

    usual = daemons.start(*everywhere, f"tcp://0.0.0.0:{port}")
    pushed_away = daemons.start(*everywhere, f"tcp://0.0.0.0:{port - 1}")

    assert (usual.address, usual.bus) == (f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}")
    assert pushed_away.bus not in (usual.address, usual.bus)
    pushed_away.wait_for_log("the port for the bus is in use by another process")


def test_its_bus_has_the_port_that_is_asked_for_or_it_does_not_start(daemons: Daemons) -> None:
    port = str(two_free_ports())

    asked_for = daemons.start("--bus-port", port)
    refused = handoff("node", "--listen", "tcp://127.0.0.1:0", "--bus-port", port)

    assert asked_for.bus == f"tcp://127.0.0.1:{port}"
    assert refused.returncode == 1
    assert "choose another port with --bus-port" in refused.stderr
    assert refused.stderr.count("\n") == 1


def two_free_ports() -> int:
    """The first of two ports in a row that are free, and so was the one before them."""
    with ExitStack() as closing:
        while True:
            taken = closing.enter_context(socket.create_server(("", 0))).getsockname()[1]
            try:
                for port in (taken - 1, taken + 1):
                    socket.create_server(("", port)).close()
            except OSError:
                continue
            return int(taken)


def test_seeds_come_from_the_environment_too(daemons: Daemons) -> None:
    first = daemons.start("--name", "n1")

    second = daemons.start("--name", "n2", variables={"HANDOFF_SEEDS": f"{first.address}, "})

    second.wait_for_log("member='n1'")


def test_node_whose_address_is_taken_leaves_no_store(daemons: Daemons, tmp_path: Path) -> None:
    taken = daemons.start()

    refused = handoff("node", "--listen", taken.address, "--spill-dir", str(tmp_path))

    assert refused.returncode == 1
    assert list(tmp_path.iterdir()) == []
