"""Programs as people type them: at prompts, from stdin, in threads."""

import subprocess
import sys
from collections.abc import Iterator

import pexpect
import pytest

from tests.daemons import environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

ANSWERS_WITHIN_S = 40
IPYTHON = (
    "-m",
    "IPython",
    "--simple-prompt",
    "--no-banner",
    "--colors=NoColor",
    "--HistoryManager.enabled=False",
)


class Prompt:
    """An interpreter on a terminal."""

    def __init__(self, *arguments: str) -> None:
        self._prompt = r"In \[\d+\]: " if "IPython" in arguments else ">>> "
        self._child = pexpect.spawn(
            sys.executable,
            list(arguments),
            encoding="utf-8",
            env=environment(TERM="dumb", PYTHON_BASIC_REPL="1"),
            timeout=ANSWERS_WITHIN_S,
            dimensions=(50, 200),
        )

    def type(self, line: str) -> None:
        """Type a line at the next prompt."""
        self._child.expect(self._prompt)
        self._child.sendline(line)

    def expect(self, text: str) -> None:
        """Return when this has been printed."""
        self._child.expect_exact(text)

    def end(self) -> str:
        """Exit the prompt. Give the text that is printed until its process has ended well."""
        self.type("exit()")
        self._child.expect(pexpect.EOF)
        self._child.close()
        assert (self._child.exitstatus, self._child.signalstatus) == (0, None)
        return str(self._child.before)

    def close(self) -> None:
        """End it, if it has not ended."""
        self._child.close(force=True)


@pytest.fixture
def prompt(request: pytest.FixtureRequest) -> Iterator[Prompt]:
    made = Prompt(*request.param)
    made.type("import handoff_actors as handoff")
    made.type("factor = 3")
    made.type("tripled = lambda number: number * factor")
    made.type("dag = handoff.new(); answer = dag.call(tripled, 14)")
    yield made
    made.close()


@pytest.mark.parametrize(
    "prompt", [("-q",), ("-m", "asyncio"), IPYTHON], indirect=True, ids=["python", "asyncio", "IPython"]
)
def test_functions_of_a_prompt_run_without_await(prompt: Prompt) -> None:
    prompt.type("print('it is', handoff.run_sync(dag).results[answer.id])")
    prompt.expect("it is 42")
    prompt.type("cluster = handoff.LocalCluster(nodes=1).start()")
    prompt.type("print('it is on', cluster.run_sync(dag).allocations[answer.id])")
    prompt.expect("it is on n1")

    assert "Error" not in prompt.end()


@pytest.mark.parametrize("prompt", [("-m", "asyncio"), IPYTHON], indirect=True, ids=["asyncio", "IPython"])
def test_prompts_that_await_keep_one_session(prompt: Prompt) -> None:
    for _ in range(2):
        prompt.type("run = await handoff.execute_distributed(dag)")
        prompt.type("print('it is', run.results[answer.id])")
        prompt.expect("it is 42")
    prompt.type("print(*await handoff.discover_nodes(), sep=' and ', end=' and no more')")
    prompt.expect("and no more")

    said = prompt.end()
    assert "Error" not in said
    assert "pending" not in said


FROM_STDIN = """
import threading
import handoff_actors as handoff

factor = 3

def tripled(number):
    return number * factor

dag = handoff.new()
answer = dag.call(tripled, 14)
print(handoff.run_sync(dag).results[answer.id])
with handoff.LocalCluster(nodes=2) as cluster:
    print(cluster.run_sync(dag).results[answer.id])
    thread = threading.Thread(target=lambda: print(cluster.run_sync(dag).results[answer.id]))
    thread.start()
    thread.join()
thread = threading.Thread(target=lambda: print(handoff.run_sync(dag).results[answer.id]))
thread.start()
thread.join()
"""


def test_a_program_on_stdin_runs_its_functions_everywhere() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=FROM_STDIN,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["42"] * 4


def test_a_cluster_that_a_thread_has_made_outlives_the_thread() -> None:
    program = """
import threading
import handoff_actors as handoff

clusters = []
thread = threading.Thread(target=lambda: clusters.append(handoff.LocalCluster(nodes=1).start()))
thread.start()
thread.join()
dag = handoff.new()
answer = dag.call(int, "42")
print(clusters[0].run_sync(dag).results[answer.id])
clusters[0].close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("42\n", "")
