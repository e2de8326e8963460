"""Notebooks, in a real kernel: those of the docs, and what can go wrong in one."""

import os
import re
import select
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.client.pages import snippets
from tests.daemons import environment, is_alive

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

ENDS_WITHIN_S = 20.0


class Notebook:
    """A kernel, and the cells that it has been given."""

    def __init__(self, client: NotebookClient, others: Collection[psutil.Process]) -> None:
        """`others` are the processes that this one had started before."""
        self._client = client
        self._others = others

    def run(self, source: str) -> str:
        """Run a cell. Give the text that it prints and that of its value. Raises CellExecutionError."""
        cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
        self._client.nb.cells.append(cell)
        self._client.execute_cell(cell, len(self._client.nb.cells) - 1)
        texts = (output.get("text") or output.data["text/plain"] for output in cell.outputs)
        return "".join(texts)

    def outputs(self) -> list[Any]:
        """The outputs below the last cell."""
        return list(self._client.nb.cells[-1].outputs)

    def family(self) -> list[psutil.Process]:
        """The kernel, and all that it has started."""
        started = [child for child in psutil.Process().children() if child not in self._others]
        return [process for child in started for process in (child, *child.children(True))]


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    # On a machine that is busy, any run may last long enough to be shown.
    with opened_notebook(HANDOFF_PROGRESS="0") as opened:
        yield opened


@contextmanager
def opened_notebook(**variables: str) -> Iterator[Notebook]:
    """A kernel that ends with the block, as people end one: by a request, without any cell that cleans up."""
    empty = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    client = NotebookClient(empty, timeout=60, kernel_name="python3")
    others = psutil.Process().children()
    with client.setup_kernel(env=environment(**variables)):
        yield Notebook(client, others)


def test_every_cell_of_the_docs_gives_what_it_says(notebook: Notebook) -> None:
    first, *others = snippets("notebooks.md", "python")

    assert notebook.run(first) == "18"
    values = [notebook.run(cell) for cell in others]

    assert values[0] == "18"
    assert values[1].strip() in {"n1", "n2", "n3"}
    assert values[2:] == [""]
    assert notebook.run("run.results[total.id]") == "18"


def test_a_kernel_that_is_shut_down_leaves_nothing() -> None:
    with opened_notebook() as notebook:
        notebook.run(snippets("notebooks.md", "python")[0])
        notebook.run("cluster = handoff.LocalCluster(nodes=2).start()\nawait handoff.connect(cluster.seeds)")
        family = notebook.family()
    psutil.wait_procs(family, ENDS_WITHIN_S)

    # The kernel, the zygote of its node and two daemons, each with a zygote; the rest are workers.
    assert len(family) > 6
    assert list(filter(is_alive, family)) == []


BLOCKED = """
import handoff_actors as handoff
dag = handoff.new()
dag.call(lambda path: open(path).read(), {gate!r})
"""


@pytest.mark.parametrize("cell", ["handoff.run_sync(dag)", "await handoff.execute_distributed(dag)"])
def test_interrupting_the_kernel_cancels_the_run(notebook: Notebook, tmp_path: Path, cell: str) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    kernel = int(notebook.run("import os\nos.getpid()"))
    notebook.run(BLOCKED.format(gate=str(gate)))
    ends: list[int] = []

    def interrupt() -> None:
        # Opens when the function has opened the other end.
        ends.append(os.open(gate, os.O_WRONLY))
        os.kill(kernel, signal.SIGINT)

    interrupting = Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(CellExecutionError, match=r"KeyboardInterrupt|CancelledError"):
        notebook.run(cell)
    interrupting.join()

    # The pipe is read no more, and the kernel goes on.
    poll = select.poll()
    poll.register(ends[0], select.POLLERR)
    assert poll.poll(ENDS_WITHIN_S * 1000)
    os.close(ends[0])
    assert notebook.run("handoff.run_sync(dag := handoff.new()).dag_id == dag.id") == "True"


RUN = """
import handoff_actors as handoff
dag = handoff.new()
total = dag.call(sum, [1, 2])
run = await handoff.execute_distributed(dag)
"""


@pytest.mark.parametrize(
    "setup", ["", "%matplotlib inline", "import matplotlib.pyplot as plt\nplt.figure();"], ids=repr
)
def test_a_plot_is_shown_exactly_once_wherever_it_is_in_its_cell(notebook: Notebook, setup: str) -> None:
    notebook.run(RUN)
    notebook.run(setup)

    shown = {}
    for cell in (
        "run.plot().figure",
        "run.plot()",
        "run.plot(); 1",
        "axes = run.plot()\naxes.set_title('mine');",
        "axes",
    ):
        notebook.run(cell)
        shown[cell] = sum("image/png" in output.get("data", ()) for output in notebook.outputs())

    assert set(shown.values()) == {1}, shown


def test_what_there_is_in_a_notebook_has_forms_of_its_own(notebook: Notebook) -> None:
    notebook.run(RUN)
    notebook.run("session = handoff.Session()\ncluster = handoff.LocalCluster(nodes=2)")

    shown = {}
    for name in ("run", "run.results", "run.report", "session", "cluster", "dag"):
        notebook.run(name)
        [output] = notebook.outputs()
        shown[name] = set(output["data"]) - {"text/plain"}

    assert shown.pop("dag") == {"image/svg+xml", "text/vnd.mermaid"}
    assert list(shown.values()) == [{"text/html"}] * 5


def test_an_error_shows_the_frames_of_cells_alone(notebook: Notebook) -> None:
    notebook.run(
        "import handoff_actors as handoff\ndag = handoff.new()\ndag.call(divmod, 1, 0, id='f', max_retries=0)"
    )

    for source in ("handoff.run_sync(dag)", "await handoff.execute_distributed(dag)"):
        with pytest.raises(CellExecutionError):
            notebook.run(source)

        (error,) = [output for output in notebook.outputs() if output.output_type == "error"]
        text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
        assert "handoff_actors" not in text
        assert f"----> 1 {source}" in text
