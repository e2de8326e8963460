"""Access to a node without a cluster key: its user may do anything, other users, browsers and containers nothing."""

import base64
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
import zmq

import handoff_actors as handoff
from handoff_actors.ids import RunId
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.user_key import user_key
from handoff_actors.wire.codec import encode
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.jobs import Job, Template
from handoff_actors.wire.messages.members import Hello
from handoff_actors.wire.messages.runs import Assign
from handoff_actors.wire.payload import encode_call
from handoff_actors.wire.versions import VERSION
from tests.cli.command import handoff as handoff_command
from tests.daemons import Daemon, Daemons, environment
from tests.transport import zmtp

pytestmark = pytest.mark.processes

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(params=[(), ("--insecure",)], ids=["user's key", "insecure"])
def node(request: pytest.FixtureRequest, daemons: Daemons) -> Daemon:
    return daemons.start("--name", "n1", "--cpu", "1", *request.param)


# --- Web pages --------------------------------------------------------------------------------------------------


def frames_that_make(file: Path) -> list[bytes]:
    """The first words of an app, and a function that leaves a file behind."""
    template = Template(
        0, b"d", by_reference=True, code=b"os:mkfifo", is_async=False, as_list=False, cost={}, timeout=None
    )
    job = Job(0, 1, 0, [], encode_call((str(file),), {}).to_bytes())
    hello = Hello(PROTOCOL, VERSION, PYTHON, "web page", None)
    return [encode([hello, Assign(RunId(7777), [template], [job])])]


def still_serves(node: Daemon) -> bool:
    """True if the node has handled all earlier messages, and still serves."""
    shown = handoff_command("nodes", "--join", node.address, *insecure_as(node))
    return shown.returncode == 0 and "n1" in shown.stdout


def insecure_as(node: Daemon) -> Sequence[str]:
    return ["--insecure"] if "--insecure" in node.process.args else []  # type: ignore[operator]


def test_post_runs_no_code(node: Daemon, tmp_path: Path) -> None:
    host, port = node.address.removeprefix("tcp://").split(":")
    page = http.client.HTTPConnection(host, int(port), timeout=20)

    with suppress(http.client.HTTPException, OSError):
        page.request(
            "POST", "/", zmtp.of_post(frames_that_make(tmp_path / "made")), {"Origin": "https://there"}
        )
        page.getresponse()

    page.close()
    assert still_serves(node)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("bytes_of", [zmtp.of_zmtp_1, zmtp.of_zmtp_2], ids=["ZMTP 1.0", "ZMTP 2.0"])
def test_old_protocols_run_no_code(
    node: Daemon, tmp_path: Path, bytes_of: Callable[[Sequence[bytes]], bytes]
) -> None:
    host, port = node.address.removeprefix("tcp://").split(":")

    with socket.create_connection((host, int(port)), timeout=20) as stranger, suppress(ConnectionError):
        stranger.sendall(bytes_of(frames_that_make(tmp_path / "made")))
        while stranger.recv(4096):
            pass

    assert still_serves(node)
    assert not (tmp_path / "made").exists()


def test_the_same_frames_of_a_member_do(daemons: Daemons, tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    node = daemons.start("--name", "n1", "--cpu", "1")
    with zmq.Context() as context, context.socket(zmq.DEALER) as member:
        member.linger = 0
        Curve(user_key()).protect_client(member)
        member.connect(node.address)
        for frame in frames_that_make(tmp_path / "made"):
            member.send(frame)

        node.wait_until((tmp_path / "made").exists)


PAGE = """
<script>
const targets = %s, body = Uint8Array.from(atob("%s"), (each) => each.charCodeAt(0));
const post = (target) => fetch(target, {method: "POST", mode: "no-cors", body, signal: AbortSignal.timeout(2000)});
Promise.allSettled(targets.map(post)).then((answers) =>
  fetch("/answers", {method: "POST", body: JSON.stringify(answers.map((answer) => answer.status))}));
</script>
"""


class Page:
    """A web page that posts to `targets`, and the server that it comes from."""

    def __init__(self, targets: Sequence[str], body: bytes) -> None:
        self.answers: list[str] = []
        self.is_done = threading.Event()
        page, text = self, PAGE % (json.dumps(targets), base64.b64encode(body).decode())

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(text.encode())

            def do_POST(self) -> None:
                page.answers = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer(b"")
                page.is_done.set()

            def answer(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def chromium(address: str, profile: Path) -> Iterator[None]:
    """A browser that has opened this page."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [CHROMIUM, *options, f"--user-data-dir={profile}", address]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        yield
    finally:
        # The node's own processes are no children of the one that was started.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which scripts/test installs where it may")
def test_page_in_a_browser_runs_no_code(daemons: Daemons, tmp_path: Path) -> None:
    frames = frames_that_make(tmp_path / "made")
    nodes = [daemons.start("--name", "n1", "--cpu", "1", *options) for options in ((), ("--insecure",))]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as unprotected:
        unprotected.linger = 0
        unprotected.rcvtimeo = 10_000
        open_port = unprotected.bind_to_random_port("tcp://127.0.0.1")
        targets = [
            f"http://127.0.0.1:{open_port}/",
            *(f"http://{urlsplit(node.address).netloc}/" for node in nodes),
        ]

        with Page(targets, zmtp.of_post(frames)) as page, chromium(page.address, tmp_path / "profile"):
            assert page.is_done.wait(30)
            # Otherwise the rest would prove nothing.
            received = unprotected.recv_multipart()
            while received[-1] != frames[-1]:
                received = unprotected.recv_multipart()

    assert len(page.answers) == len(targets)
    assert all(map(still_serves, nodes))
    assert not (tmp_path / "made").exists()


# --- Other users of the machine ---------------------------------------------------------------------------------

#: Imports its modules before it becomes another user, who may perhaps not read them.
AS_ANOTHER_USER = """
import asyncio, os, sys
import handoff_actors as handoff
import handoff_actors.client.session, handoff_actors.transport.zeromq
user, address = int(sys.argv[1]), sys.argv[2]
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)

async def main():
    async with handoff.Session(seeds=[address]):
        print("is in")

try:
    asyncio.run(main())
except handoff.HandoffError as error:
    print(type(error).__name__, error)
"""


def as_another_user(address: str, state: Path) -> str:
    """Connect to a node as another user, who has this place for a key, and return the outcome."""
    variables = environment(XDG_STATE_HOME=str(state))
    command = [sys.executable, "-c", AS_ANOTHER_USER, str(NOBODY), address]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@as_root
def test_another_user_is_a_stranger(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1")
    with tempfile.TemporaryDirectory() as state:
        os.chown(state, NOBODY, NOBODY)

        answer = as_another_user(node.address, Path(state))

        assert answer.startswith("AuthenticationError")
        assert f"this user's own key ({state}/handoff/user.key)" in answer
    node.wait_for_log("stranger refused")


@as_root
def test_another_user_gets_in_where_a_node_is_insecure(daemons: Daemons) -> None:
    """Also on the loopback: that is what the word says. And otherwise the test above would prove nothing."""
    node = daemons.start("--name", "n1", "--cpu", "1", "--insecure")
    code = AS_ANOTHER_USER.replace("seeds=[address]", "seeds=[address], insecure=True")
    command = [sys.executable, "-c", code, str(NOBODY), node.address]

    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False)

    assert done.stdout.strip() == "is in", done.stderr


@as_root
def test_user_without_a_place_for_a_key_is_told_what_to_do(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1")

    answer = as_another_user(node.address, Path("/proc/nowhere"))

    assert answer.startswith("InvalidKeyError")
    assert "HANDOFF_KEY" in answer


# --- The same user ----------------------------------------------------------------------------------------------


async def test_node_app_and_commands_of_one_user_need_no_set_up(daemons: Daemons) -> None:
    [n1, n2] = daemons.cluster(2, "--cpu", "1")

    async with handoff.Session(seeds=[n2.address]) as session:
        run = await session.execute_distributed(handoff.DAG().add_function(handoff.Function("one", [], int)))
    shown = handoff_command("nodes", "--join", n1.address)

    assert run.results["one"] == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["name", "n1", "n2"]


def test_daemons_that_start_together_as_the_first_make_one_key(tmp_path: Path) -> None:
    state = str(tmp_path)
    with ExitStack() as closing:
        starting = ThreadPoolExecutor(4)
        closing.callback(starting.shutdown)
        made = [starting.submit(Daemon, "--cpu", "1", variables={"XDG_STATE_HOME": state}) for _ in range(4)]
        nodes = [each.result() for each in made]
        for node in nodes:
            closing.callback(node.close)

        shown = [handoff_command("nodes", "--join", node.address, XDG_STATE_HOME=state) for node in nodes]

    assert [each.returncode for each in shown] == [0] * 4


async def test_who_has_a_key_and_who_is_insecure_are_told_what_to_do(daemons: Daemons) -> None:
    keyed = daemons.start("--name", "n1", "--cpu", "1")
    insecure = daemons.start("--name", "n2", "--cpu", "1", "--insecure")

    with pytest.raises(handoff.AuthenticationError, match="a key"):
        async with handoff.Session(seeds=[keyed.address], insecure=True):
            pass
    with pytest.raises(handoff.AuthenticationError, match="HANDOFF_INSECURE=1"):
        async with handoff.Session(seeds=[insecure.address]):
            pass


def test_a_key_and_insecure_contradict_one_another(tmp_path: Path) -> None:
    handoff_command("keygen", "--output", str(tmp_path / "key"))

    refused = handoff_command("node", "--insecure", "--key-file", str(tmp_path / "key"))

    assert refused.returncode == 2
    assert (
        f"insecure means without a key, and there is one: the key file {tmp_path / 'key'}" in refused.stderr
    )


def test_an_embedded_node_needs_no_key(tmp_path: Path) -> None:
    """An embedded node has no socket, so containers without a home need nothing either."""
    code = "import handoff_actors as h; d = h.new(); d.call(sum, [1, 2], id='s'); print(h.run_sync(d).results['s'])"
    variables = environment(XDG_STATE_HOME="/proc/nowhere")

    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
