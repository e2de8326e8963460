"""joblib's parallel loops, and so scikit-learn's, run on our workers."""

import multiprocessing
import os
import time
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from handoff_actors.integrations.background import BackgroundSession
from handoff_actors.integrations.joblib import register
from tests.daemons import Daemons
from tests.integrations.functions import die, increment

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def _through_handoff() -> Any:
    register()
    with parallel_config("handoff"):
        yield


def test_results_come_in_order() -> None:
    assert Parallel(n_jobs=2)(delayed(increment)(n) for n in range(500)) == list(range(1, 501))


def test_work_is_done_in_other_processes() -> None:
    assert os.getpid() not in Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))


def test_all_cores_are_those_of_the_cluster() -> None:
    assert joblib.effective_n_jobs(-1) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators_yield_what_is_done(return_as: str) -> None:
    results = Parallel(n_jobs=2, return_as=return_as)(delayed(increment)(n) for n in range(20))

    assert sorted(results) == list(range(1, 21))


def test_an_exception_ends_the_loop_and_the_next_one_works() -> None:
    with pytest.raises(ZeroDivisionError):
        Parallel(n_jobs=2)(delayed(divmod)(1, n) for n in (2, 1, 0, 1))

    assert Parallel(n_jobs=2)(delayed(increment)(n) for n in range(3)) == [1, 2, 3]


def test_a_time_limit_ends_what_runs() -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(n_jobs=2, timeout=0.5)(delayed(time.sleep)(60) for _ in range(2))

    assert Parallel(n_jobs=2)(delayed(increment)(n) for n in range(3)) == [1, 2, 3]


def test_a_call_that_kills_its_workers_breaks_the_loop() -> None:
    with pytest.raises(BrokenExecutor):
        Parallel(n_jobs=2)(delayed(die)() for _ in range(2))


def nested_backend() -> str:
    return type(Parallel(n_jobs=2)._backend).__name__


def test_nested_loops_use_threads_in_the_worker() -> None:
    assert Parallel(n_jobs=2)(delayed(nested_backend)() for _ in range(2)) == ["ThreadingBackend"] * 2


def threads() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def test_libraries_in_a_worker_get_the_threads_asked_for() -> None:
    with parallel_config("handoff", inner_max_num_threads=3):
        assert Parallel(n_jobs=2)(delayed(threads)() for _ in range(2)) == ["3", "3"]


def private_nbytes(_: object) -> int:
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def test_workers_do_not_keep_what_they_were_given() -> None:
    # By itself joblib takes together as many calls as the machine is quick enough for.
    numbers = Parallel(n_jobs=2, batch_size=1)(delayed(private_nbytes)(bytes(10_000_000)) for _ in range(24))

    assert max(numbers[12:]) < max(numbers[:12]) + 3 * 10_000_000


LARGE = 300_000


def shared_by(pid: int) -> int:
    """The number of arrays that a process shares."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += "handoff array" in str(link.readlink())
    return found


def look_at(array: Any, pid: int) -> tuple[float, bool, int]:
    return float(array.sum()), array.flags.writeable, shared_by(pid)


def test_a_large_array_is_shared_once_and_only_as_long_as_the_loop_lasts() -> None:
    array = np.arange(LARGE)

    looks = Parallel(n_jobs=2, batch_size=1)(delayed(look_at)(array, os.getpid()) for _ in range(10))

    assert looks == [(array.sum(), False, 1)] * 10
    assert shared_by(os.getpid()) == 0


@pytest.mark.parametrize(
    "array",
    [
        np.arange(2 * LARGE).reshape(2, -1).T,
        np.arange(2 * LARGE)[::2],
        np.arange(6 * LARGE).reshape(3, -1, 2)[:, ::2],
        np.zeros(LARGE, [("x", "i4"), ("y", "f8")]),
    ],
    ids=["Fortran's order", "strided", "three-dimensional", "structured"],
)
def test_arrays_of_every_shape_arrive_as_they_are(array: Any) -> None:
    [one, other] = Parallel(n_jobs=2)(delayed(np.array)(array) for _ in range(2))

    assert np.array_equal(one, array)
    assert (other.dtype, other.shape) == (array.dtype, array.shape)


def test_arrays_of_objects_are_sent() -> None:
    array = np.array(["x"] * LARGE, dtype=object)

    assert Parallel(n_jobs=2)(delayed(len)(array) for _ in range(2)) == [LARGE] * 2


def test_an_array_that_has_changed_is_shared_anew() -> None:
    array = np.zeros(LARGE)
    with Parallel(n_jobs=2) as parallel:
        for number in range(3):
            array[:] = number

            assert parallel(delayed(np.max)(array) for _ in range(2)) == [number] * 2


def test_arrays_that_nobody_needs_any_more_are_dropped_within_the_loop() -> None:
    looks = Parallel(n_jobs=2, batch_size=1)(
        delayed(look_at)(np.full(LARGE, number), os.getpid()) for number in range(40)
    )

    assert [total for total, _, _ in looks] == [LARGE * number for number in range(40)]
    assert max(count for _, _, count in looks) < 20


def add_one(array: Any) -> float:
    array += 1
    return float(array[0])


@pytest.mark.parametrize(("mode", "seen"), [("c", {1.0}), ("r+", {1.0, 2.0, 3.0, 4.0}), (None, {1.0})])
def test_what_calls_write_is_seen_as_the_mode_says(mode: str | None, seen: set[float]) -> None:
    calls = (delayed(add_one)(array) for array in [np.zeros(LARGE)] * 4)

    assert set(Parallel(n_jobs=2, batch_size=1, mmap_mode=mode)(calls)) <= seen


def fill(array: Any, number: int) -> None:
    array[number] = number


def test_calls_write_into_a_file_that_is_mapped(tmp_path: Path) -> None:
    output = np.memmap(tmp_path / "output", dtype="i8", shape=(10, 10), mode="w+")

    Parallel(n_jobs=2)(delayed(fill)(output, number) for number in range(10))

    assert np.array_equal(output, np.arange(10).repeat(10).reshape(10, 10))


def test_arrays_are_sent_to_nodes_that_may_be_elsewhere(daemons: Daemons) -> None:
    seeds = [node.address for node in daemons.cluster(2, "--cpu", "1")]
    array = np.arange(LARGE)

    with BackgroundSession(seeds) as session, parallel_config("handoff", session=session):
        # Each call writes into what it was given, which it could not if that were shared.
        negative = Parallel(n_jobs=2)(delayed(np.negative)(array, array) for _ in range(4))

    assert all(np.array_equal(each, -array) for each in negative)


def test_scikit_learn_searches_and_grows_forests() -> None:
    samples, labels = load_iris(return_X_y=True)

    search = GridSearchCV(SVC(), {"C": [0.01, 1.0]}, n_jobs=2, cv=3).fit(samples, labels)
    forest = RandomForestClassifier(8, n_jobs=2, random_state=1).fit(samples, labels)
    alone = RandomForestClassifier(8, n_jobs=1, random_state=1).fit(samples, labels)

    assert search.best_params_ == {"C": 1.0}
    assert np.array_equal(forest.predict(samples), alone.predict(samples))
