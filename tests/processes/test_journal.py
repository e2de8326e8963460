"""Runs with a journal: what a second run reuses, what it runs again, and what is wrong with files."""

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.actors.app.journal_file import PIECE_BYTES, JournalFile
from handoff_actors.core.run.facts.resumption import JournalRow, Recorded
from tests.daemons import Daemons, environment
from tests.processes.app import App
from tests.processes.functions import sleep_in_c, wait_for_ever
from tests.workers.announcement import Announcement
from tests.workers.functions import same

pytestmark = pytest.mark.processes

#: In the file it is copied in pieces, the last of which is not full.
NOBODY = 65534
#: Files that SQLite may have beside a database.
BESIDE = ("-wal", "-journal", "-shm")
LARGE = 2 * PIECE_BYTES + 1000


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


class Log:
    """A log in which functions record their runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def logged(self, name: str, code: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that it records its runs."""
        path = str(self._path)

        def run(*args: Any) -> Any:
            with open(path, "a") as file:  # noqa: PTH123 - as short as what travels should be
                file.write(f"{name}\n")
            return code(*args)

        return run

    def take(self) -> list[str]:
        """The functions that have run since the last call, sorted."""
        lines = sorted(self._path.read_text().split()) if self._path.exists() else []
        self._path.write_text("")
        return lines


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def chain(log: Log, second: Callable[..., Any] = lambda value: value + 1, start: int = 1) -> handoff.DAG:
    """Three functions, and one beside them."""
    return handoff.DAG().add_functions(
        [
            handoff.Function("first", [], log.logged("first", same), extra_args=[start]),
            handoff.Function("second", ["first"], log.logged("second", second)),
            handoff.Function("third", ["second"], log.logged("third", lambda value: value * 2)),
            handoff.Function("beside", [], log.logged("beside", lambda: "beside")),
        ]
    )


async def test_a_second_run_reuses_everything_and_says_so(app: App, journal: Path, log: Log) -> None:
    events: list[handoff.RunEvent] = []
    first = await app.run(chain(log), journal=journal)
    log.take()

    second = await app.run(chain(log), journal=str(journal), on_event=events.append)

    assert log.take() == []
    assert first.reused == set()
    assert second.reused == {"first", "second", "third", "beside"}
    assert (
        dict(second.results)
        == dict(first.results)
        == {"first": 1, "second": 2, "third": 4, "beside": "beside"}
    )
    assert dict(second.allocations) == dict(first.allocations)
    assert [event.kind for event in events if event.function_id is not None] == ["reused"] * 4
    assert second.report["third"].attempts == 0


async def test_results_within_containers_are_reused_until_one_changes(
    app: App, journal: Path, log: Log
) -> None:
    def graph(start: int) -> handoff.DAG:
        dag = handoff.DAG()
        parts = [dag.call(log.logged(f"part_{n}", abs), n * start) for n in (1, 2)]
        dag.call(
            log.logged("total", lambda parts, more: sum(parts) + more["first"]), parts, {"first": parts[0]}
        )
        return dag

    await app.run(graph(1), journal=journal)
    log.take()

    again = await app.run(graph(1), journal=journal)
    changed = await app.run(graph(3), journal=journal)

    assert [*again.results.values()][-1] == 4
    assert [*changed.results.values()][-1] == 12
    assert sorted(log.take()) == ["part_1", "part_2", "total"]


async def test_changed_code_runs_again_with_all_that_follows(app: App, journal: Path, log: Log) -> None:
    await app.run(chain(log), journal=journal)
    log.take()

    run = await app.run(chain(log, second=lambda value: value + 2), journal=journal)

    assert log.take() == ["second", "third"]
    assert run.results["third"] == 6
    assert run.reused == {"first", "beside"}


async def test_changed_input_runs_again_with_all_that_follows(app: App, journal: Path, log: Log) -> None:
    await app.run(chain(log), journal=journal)
    log.take()

    run = await app.run(chain(log, start=5), journal=journal)

    assert log.take() == ["first", "second", "third"]
    assert run.results["third"] == 12


async def test_a_function_that_failed_is_tried_again_and_others_are_reused(
    app: App, journal: Path, log: Log, tmp_path: Path
) -> None:
    marker = tmp_path / "repaired"

    def fragile(value: int) -> int:
        if not marker.exists():
            raise ValueError(value)
        return value + 1

    with pytest.raises(handoff.FunctionFailed):
        await app.run(chain(log, second=fragile), journal=journal, max_retries=0, max_concurrency=1)
    before = log.take()
    marker.touch()
    run = await app.run(chain(log, second=fragile), journal=journal)

    assert log.take() == sorted({"beside", "first", "second", "third"} - (set(before) - {"second"}))
    assert run.results["third"] == 4
    assert "first" in run.reused


def with_large(log: Log, *, reader: str = "size") -> handoff.DAG:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("large", [], log.logged("large", bytes), extra_args=[LARGE]))
    dag.add_function(handoff.Function(reader, ["large"], log.logged(reader, len)))
    return dag


async def test_a_large_value_that_stayed_on_a_node_is_made_again_only_if_it_is_needed(
    app: App, journal: Path, log: Log
) -> None:
    await app.run(with_large(log), journal=journal)
    log.take()

    unneeded = await app.run(with_large(log), journal=journal)
    ran_unneeded = log.take()
    needed = await app.run(with_large(log, reader="other"), journal=journal)
    ran_needed = log.take()
    wanted = await app.run(with_large(log), journal=journal, fetch=["large"])

    assert (ran_unneeded, ran_needed, log.take()) == ([], ["large", "other"], ["large"])
    assert unneeded.results["size"] == needed.results["other"] == LARGE
    assert wanted.results["large"] == bytes(LARGE)
    with pytest.raises(handoff.NodeLost, match="'large' is gone"):
        await unneeded.results["large"]


@pytest.mark.parametrize("is_daemon", [False, True], ids=["embedded", "daemon"])
async def test_a_large_value_that_came_home_serves_functions_of_the_next_run(
    journal: Path, log: Log, daemons: Daemons, is_daemon: bool
) -> None:
    seeds = [daemons.start().address] if is_daemon else []
    async with handoff.Session(seeds, None if is_daemon else {"cpu": 2}) as session:
        await session.execute_distributed(with_large(log), journal=journal, fetch=["large"])
        log.take()

        run = await session.execute_distributed(with_large(log, reader="other"), journal=journal)

    assert log.take() == ["other"]
    assert run.results["other"] == LARGE
    assert run.results["large"] == bytes(LARGE)


async def test_hooks_run_again_with_their_consumer_alone(app: App, journal: Path, log: Log) -> None:
    def dag(code: Callable[..., Any]) -> handoff.DAG:
        hooked = handoff.Argument("first", serialize=log.logged("hook", lambda value, *_: value + 10))
        return handoff.DAG().add_functions(
            [
                handoff.Function("first", [], log.logged("first", lambda: 1)),
                handoff.Function("second", [hooked], log.logged("second", code)),
            ]
        )

    await app.run(dag(lambda value: value), journal=journal)
    log.take()
    again = await app.run(dag(lambda value: value), journal=journal)
    ran_again = log.take()
    changed = await app.run(dag(lambda value: -value), journal=journal)

    assert ran_again == []
    assert log.take() == ["hook", "second"]
    assert (again.results["second"], changed.results["second"]) == (11, -11)


async def test_what_was_done_before_a_cancellation_is_reused(
    app: App, journal: Path, log: Log, announcement: Announcement
) -> None:
    path = announcement.path
    slow = chain(log, second=lambda _: sleep_in_c(path))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(slow, journal=journal))
        await announcement.text()
        running.cancel()
    log.take()

    run = await app.run(chain(log), journal=journal)

    assert {"first", "beside"} <= run.reused
    assert log.take() == ["second", "third"]


# --- Files ------------------------------------------------------------------------------------------------------


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o777


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


async def test_the_file_is_for_its_owner_alone(app: App, journal: Path, log: Log) -> None:
    await app.run(chain(log), journal=journal)

    assert permissions(journal) == 0o600


def make_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE customers (name)")


def make_newer(path: Path) -> None:
    JournalFile(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def make_damaged(path: Path) -> None:
    file = JournalFile(path)
    file.write([JournalRow(bytes([number]), "f", b"", "n", 5000, bytes(5000)) for number in range(20)])
    file.close()
    with path.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * 8192)


def make_writable(path: Path) -> None:
    JournalFile(path).close()
    path.chmod(0o660)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"not a database at all" * 100), "it is no journal"),
        (make_foreign, "it is a database of something else"),
        (make_newer, "it has layout 99"),
        (make_damaged, "it is damaged"),
        (lambda path: path.mkdir(), "it is not a file"),
        (lambda path: os.mkfifo(path, 0o600), "it is not a file"),
        (lambda path: path.symlink_to(path.parent / "missing" / "run.db"), "it is a link"),
        (make_writable, "it has mode 0660"),
        (lambda path: path.parent.chmod(0o777), "everybody may put another file in its place"),
    ],
    ids=["text", "foreign", "newer", "damaged", "directory", "fifo", "link", "writable", "open directory"],
)
async def test_a_file_that_is_no_journal_is_refused_by_name_and_left_as_it_was(
    app: App, journal: Path, log: Log, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(journal)
    before = content(journal)

    with pytest.raises(handoff.JournalError, match=reason) as caught:
        await app.run(chain(log), journal=journal)

    assert caught.value.path == journal
    assert str(journal) in str(caught.value)
    assert content(journal) == before
    assert log.take() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("suffix", ["", *BESIDE])
def test_a_journal_that_another_user_can_have_written_is_refused(journal: Path, suffix: str) -> None:
    """SQLite takes what is in the files beside it for changes that were under way."""
    JournalFile(journal).close()
    planted = Path(f"{journal}{suffix}")
    planted.touch()
    os.chown(planted, NOBODY, NOBODY)

    with pytest.raises(handoff.JournalError, match=f"{planted}.*it belongs to user {NOBODY}"):
        JournalFile(journal)


#: Opens a journal as a user beside whose files another user makes the log, once they have been looked at.
PLANTED_LATE = """
import os, sqlite3, sys
from handoff_actors.actors.app.journal_file import JournalFile
path, user = sys.argv[1], int(sys.argv[2])
os.setresuid(user, user, 0)
JournalFile(path).close()
connect = sqlite3.connect

def planted_first(*arguments, **options):
    os.seteuid(0)
    os.close(os.open(path + "-wal", os.O_CREAT | os.O_EXCL))
    os.chmod(path + "-wal", 0o666)
    os.seteuid(user)
    return connect(*arguments, **options)

sqlite3.connect = planted_first
try:
    JournalFile(path)
    print("was opened")
except Exception as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_log_that_somebody_makes_while_the_journal_is_opened_is_refused() -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, NOBODY, NOBODY)
        command = [sys.executable, "-c", PLANTED_LATE, f"{place}/run.db", str(NOBODY)]

        done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "belongs to user 0" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_a_journal_behind_a_link_of_another_user_is_refused(journal: Path) -> None:
    own, theirs = journal.parent / "own", journal.parent / "theirs"
    (journal.parent / "there").mkdir()
    for link in (own, theirs):
        link.symlink_to(journal.parent / "there")
    os.lchown(theirs, NOBODY, NOBODY)

    JournalFile(own / "run.db").close()
    with pytest.raises(handoff.JournalError, match=f"{theirs} is a link of user {NOBODY}"):
        JournalFile(theirs / "run.db")


def test_a_journal_in_a_directory_like_tmp_is_used(journal: Path) -> None:
    journal.parent.chmod(0o1777)

    JournalFile(journal).close()
    JournalFile(journal).close()

    assert permissions(journal) == 0o600


@contextmanager
def used_elsewhere(path: Path) -> Iterator[None]:
    """A journal that another process has open, until it is killed."""
    source = (
        "import sys; from handoff_actors.actors.app.journal_file import JournalFile;"
        "file = JournalFile(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", source, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        yield
        other.kill()


async def test_a_journal_that_another_process_uses_is_refused(app: App, journal: Path, log: Log) -> None:
    with used_elsewhere(journal), pytest.raises(handoff.JournalError, match="in use by another run"):
        await app.run(chain(log), journal=journal)

    assert (await app.run(chain(log), journal=journal)).results["third"] == 4


async def test_a_journal_that_another_run_of_this_process_uses_is_refused(
    app: App, journal: Path, log: Log
) -> None:
    with closing(JournalFile(journal)), pytest.raises(handoff.JournalError, match="in use by another run"):
        await app.run(chain(log), journal=journal)

    assert (await app.run(chain(log), journal=journal)).reused == set()


def test_a_value_that_is_too_long_for_the_file_counts_as_one_that_stayed_on_its_node(journal: Path) -> None:
    with closing(JournalFile(journal)) as file:
        file._longest_value = LARGE - 1

        file.write([JournalRow(b"key", "f", b"print", "n", LARGE, bytes(LARGE))])

    with closing(JournalFile(journal)) as file:
        assert file.recorded([b"key"]) == {b"key": Recorded(b"print", "n", LARGE, has_value=False)}


def test_rows_replace_those_of_the_same_function(journal: Path) -> None:
    values = [b"small", bytes(range(256)) * 5000, None, b"last"]
    for value in values:
        with closing(JournalFile(journal)) as file:
            file.write([JournalRow(b"key", "f", b"print", "n", 5, value)])
            if value is not None:
                assert file.value(b"key") == value

        with closing(JournalFile(journal)) as file:
            assert file.recorded([b"key"]) == {b"key": Recorded(b"print", "n", 5, value is not None)}


def test_rows_are_found_by_their_keys_and_only_once_the_file_is_opened_again(journal: Path) -> None:
    keys = [b"%d" % number for number in range(1200)]
    with closing(JournalFile(journal)) as file:
        file.write([JournalRow(key, "f", key, "n", 1, b"v") for key in keys[:1100]])
        assert file.recorded(keys) == {}

    with closing(JournalFile(journal)) as file:
        # The last row of before is replaced by one that must not take its number.
        file.write([JournalRow(keys[1099], "f", b"new", "n", 1, b"v")])
        assert file.recorded(keys).keys() == set(keys[:1099])


def test_a_full_disk_is_told_as_such(journal: Path) -> None:
    with closing(JournalFile(journal)) as file:
        file._database.execute("PRAGMA max_page_count = 10")

        with pytest.raises(handoff.JournalError, match="the disk is full"):
            file.write([JournalRow(b"key", "f", b"", "n", 100_000, bytes(100_000))])

        assert file.recorded([b"key"]) == {}


async def test_a_run_whose_journal_cannot_be_written_fails(app: App, journal: Path) -> None:
    dag = handoff.DAG().add_functions(
        [
            handoff.Function("much", [], bytes, extra_args=[60_000]),
            handoff.Function("never", ["much"], wait_for_ever),
        ]
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    JournalFile(journal).close()
    # Workers have been started before, and write what they like.
    await app.call(same, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(handoff.JournalError, match=str(journal)):
            await app.run(dag, journal=journal)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    await app.until_idle()
