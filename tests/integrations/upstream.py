"""Other projects' own tests of the interfaces that we offer, each as a program of its own.

`python tests/integrations/upstream.py [cpython] [dask] [joblib] [--few]` runs them and prints their counts.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from tests.integrations import cpython_futures  # noqa: E402 - this file may be run as a program

#: Files of Dask's tests, below its package, that compute through a scheduler.
DASK = (
    "bag/tests/test_bag.py",
    "tests/test_delayed.py",
    "array/tests/test_array_core.py",
    "array/tests/test_rechunk.py",
    "dataframe/dask_expr/tests/test_concat.py",
    "dataframe/dask_expr/tests/test_describe.py",
    "dataframe/dask_expr/tests/test_merge.py",
    "dataframe/dask_expr/tests/test_quantiles.py",
    "dataframe/dask_expr/tests/test_reductions.py",
    "dataframe/dask_expr/tests/test_rolling.py",
    "dataframe/dask_expr/tests/test_shuffle.py",
)
#: The part of each project's tests that takes a few seconds.
FEW_OF_CPYTHON = (
    "test_submit",
    "test_map",
    "test_no_stale",
    "test_free_reference",
    "test_run_after",
    "test_cancel_futures",
    "test_initializer",
    "interpreter_shutdown",
    "test_crash",
    "test_error",
)
FEW_OF_DASK = "test_fold or test_frequencies or test_topk or test_std or test_join or test_pluck or test_keys or test_nout or test_pure"
#: Not where a worker is to have processes of loky's below it: those are killed with the worker, and what they keep in
#: shared memory stays there.
FEW_OF_JOBLIB = "handoff and (test_simple_parallel or test_error_capture or test_multi_dimensional or test_nested_exception)"


def cpython(*, few: bool) -> tuple[int, str]:
    """Exit status and output. Raises LookupError where there is no such suite."""
    source = cpython_futures.source()
    if source is None:
        raise LookupError(
            "this interpreter has no test.test_concurrent_futures; set CPYTHON_TESTS to a folder that has"
        )
    with tempfile.TemporaryDirectory() as folder:
        cpython_futures.gather(source, Path(folder))
        patterns = [word for pattern in FEW_OF_CPYTHON if few for word in ("-k", pattern)]
        return _run([str(HERE / "cpython_futures.py"), *patterns], folder)


def dask(*, few: bool) -> tuple[int, str]:
    """Exit status and output."""
    files = DASK[:2] if few else DASK
    return _pytest("dask", files, FEW_OF_DASK if few else "")


def joblib(*, few: bool) -> tuple[int, str]:
    """Exit status and output."""
    return _pytest("joblib", ["test/test_parallel.py"], FEW_OF_JOBLIB if few else "")


SUITES = {"cpython": cpython, "dask": dask, "joblib": joblib}


def counts(output: str) -> str:
    """Passed, failed, not applicable."""
    if found := re.findall(r"^\d+ passed, \d+ failed, \d+ not applicable$", output, re.MULTILINE):
        return str(found[-1])
    summary = output.rstrip().splitlines()[-1]
    number = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error|skipped)", summary)}
    failed = number.get("failed", 0) + number.get("error", 0)
    ours = sum(
        int(count) for count in re.findall(r"^SKIPPED \[(\d+)\] .*does not apply: ", output, re.MULTILINE)
    )
    skipped = number.get("skipped", 0) - ours
    return f"{number.get('passed', 0)} passed, {failed} failed, {ours} not applicable, {skipped} skipped by the suite itself"


def _pytest(package: str, files: Sequence[str], chosen: str) -> tuple[int, str]:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    paths = [str(Path(spec.origin).parent / file) for file in files]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        config = [
            "-c",
            f"{folder}/pytest.ini",
            "--rootdir",
            folder,
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
        ]
        options = [
            "-p",
            f"tests.integrations.{package}_through_handoff",
            "-W",
            "ignore",
            "--timeout",
            "120",
            "--tb",
            "short",
            "-q",
            "-rs",
        ]
        return _run(["-m", "pytest", *config, *options, "-k", chosen, *paths])


def _run(command: Sequence[str], path: str = "") -> tuple[int, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HANDOFF_", "PYTEST_"))
    }
    paths = [path, str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=inherited | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    return done.returncode, done.stdout


def main(arguments: Sequence[str]) -> int:
    """Run the suites named, or all; the exit status says whether all passed."""
    names = [name for name in arguments if name in SUITES] or list(SUITES)
    worst = 0
    for name in names:
        status, output = SUITES[name](few="--few" in arguments)
        if status:
            print(output)
        print(f"{name}: {counts(output)}", flush=True)
        worst = worst or status
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
