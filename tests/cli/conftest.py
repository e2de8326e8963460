import os
from pathlib import Path

import pytest

JOBS = """
import os
from dataclasses import dataclass
from pathlib import Path

import handoff_actors as handoff


@dataclass
class Point:
    x: int


def point(x):
    return Point(x)


def total(*points):
    print("adding up")
    return sum(point.x for point in points)


def fail(point):
    raise LookupError(f"nothing at {point}")


def wait_for(fifo):
    print("waiting in", os.getpid(), flush=True)
    return Path(fifo).read_text()


def fine():
    dag = handoff.DAG("fine")
    dag.call(total, *[dag.call(point, x, id=x, cost={"cpu": 1}) for x in range(60)], id="total")
    return dag


def failing():
    dag = handoff.DAG("failing")
    dag.call(fail, dag.call(point, 7, id="point"), id="fail", max_retries=1)
    return dag


def waiting():
    return handoff.DAG("waiting").add_function(
        handoff.Function(id="wait", args=[], code=wait_for, extra_args=[str(Path("gate").absolute())], cost={"cpu": 1})
    )


def sized(n: int, tag="all"):
    dag = handoff.DAG(f"sized-{tag}")
    dag.call(total, *[dag.call(point, x, id=x) for x in range(n)], id="total")
    return dag


async def eventual(n=2):
    return sized(n)


def broken():
    fail("home")


def partly():
    dag = handoff.DAG("partly")
    failed = dag.call(fail, 1, id="failed", max_retries=0)
    dag.call(total, failed, id="skipped")
    dag.call(point, 2, id="fine")
    return dag


def nothing_returned():
    fine()


def odd_values():
    dag = handoff.DAG("odd")
    dag.call(Point, float("nan"), id="point")
    dag.call(bytes, 2, id="bytes")
    return dag


def around():
    dag = handoff.DAG("around")
    dag.call(os.getenv, "GREETING", id="greeting")
    dag.call(os.getcwd, id="place")
    return dag


class Flows:
    @staticmethod
    def made(n=3):
        return sized(n)


DAG_OBJECT = fine()
NOT_A_DAG = 3
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """A directory with a user's module, jobs.py, and a fifo, gate."""
    (tmp_path / "jobs.py").write_text(JOBS)
    os.mkfifo(tmp_path / "gate")
    return tmp_path
