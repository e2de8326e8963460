"""Lines of a log whose reader reads slowly, not at all, or again."""

import fcntl
import logging
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handoff_actors.actors.node.logs.output import LogOutput
from handoff_actors.actors.node.logs.setup import LogHandler

PIPE_NBYTES = 4096
#: What the pipe and the queue of these tests hold.
WAITING_NBYTES = 10_000


def notice(count: int) -> bytes:
    return b"%d dropped\n" % count


class Reader:
    """The other end of a FIFO."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, PIPE_NBYTES)

    def read_until(self, end: bytes) -> list[bytes]:
        """All lines up to one that ends so."""
        read = b""
        while not read.endswith(end + b"\n"):
            read += self.read()
        return read.splitlines()

    def read(self) -> bytes:
        """Some bytes, once there are any."""
        os.set_blocking(self._descriptor, True)
        return os.read(self._descriptor, 1 << 16)

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path / "fifo")
    yield made
    made.close()


@pytest.fixture
def output(reader: Reader) -> Iterator[LogOutput]:
    made = LogOutput(notice, reader.path, WAITING_NBYTES)
    yield made
    made.close()


def lines_of(numbers: range) -> list[bytes]:
    return [b"%05d " % number + b"x" * 93 for number in numbers]


def test_lines_come_in_order_and_whole(output: LogOutput, reader: Reader) -> None:
    for line in lines_of(range(40)):
        output.write(line + b"\n")
    output.write(b"end\n")

    assert reader.read_until(b"end") == [*lines_of(range(40)), b"end"]
    assert output.dropped == 0


def test_nobody_waits_for_a_reader_and_dropped_lines_are_counted_in_their_place(
    output: LogOutput, reader: Reader
) -> None:
    began = time.monotonic()
    for line in lines_of(range(1000)):
        output.write(line + b"\n")

    assert time.monotonic() - began < 1
    dropped = output.dropped
    assert 1000 - dropped >= WAITING_NBYTES // 100
    read = reader.read_until(b"dropped")
    assert read == [*lines_of(range(1000 - dropped)), b"%d dropped" % dropped]

    output.write(b"after\n")

    assert reader.read_until(b"after") == [b"after"]
    assert output.dropped == dropped


def test_what_is_said_after_dropped_lines_comes_behind_their_number(
    output: LogOutput, reader: Reader
) -> None:
    for line in lines_of(range(1000)):
        output.write(line + b"\n")
    read, dropped = b"", 0
    while output.dropped != dropped:
        read += reader.read()
        dropped = output.dropped
        output.write(b"later\n")

    while not read.endswith(b"later\n"):
        read += reader.read()

    assert read.splitlines()[-2:] == [b"%d dropped" % dropped, b"later"]


def test_lines_that_cannot_be_written_are_counted_and_harm_nobody() -> None:
    output = LogOutput(notice, Path("/dev/full"))

    for _ in range(10):
        output.write(b"line\n")

    assert output.flush(10)
    assert output.dropped == 10
    output.close()


def test_a_line_that_a_full_disk_cut_off_stands_alone(tmp_path: Path) -> None:
    # A file may be as long as this process's limit says, which is as good as a disk of that size.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "log"
    output = LogOutput(notice, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, limits[1]))
    try:
        for line in lines_of(range(3)):
            output.write(line + b"\n")
            output.flush(10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    output.write(b"after\n")
    output.close()

    whole, cut, *rest = path.read_bytes().splitlines()
    assert (whole, cut) == (lines_of(range(1))[0], lines_of(range(2))[1][:50])
    assert rest == [b"2 dropped", b"after"]


def test_an_end_waits_a_moment_only_for_a_reader(output: LogOutput) -> None:
    for line in lines_of(range(1000)):
        output.write(line + b"\n")
    began = time.monotonic()

    output.close(0.1)

    assert time.monotonic() - began < 2


def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = LogOutput(notice, path)
    for number in range(1000):
        output.write(b"%d\n" % number)

    output.close()

    assert path.read_bytes().split() == [b"%d" % number for number in range(1000)]


@pytest.mark.parametrize("is_told", [True, False])
def test_a_file_that_is_rotated_is_opened_anew(tmp_path: Path, is_told: bool) -> None:
    path, earlier = tmp_path / "log", tmp_path / "log.1"
    output = LogOutput(notice, path)
    output.write(b"before\n")
    output.flush(10)
    path.rename(earlier)
    if is_told:
        output.reopen()
        output.flush(10)
        assert path.read_bytes() == b""

    output.write(b"after\n")
    output.close()

    assert (earlier.read_bytes(), path.read_bytes()) == (b"before\n", b"after\n")


def test_a_file_whose_directory_is_gone_is_written_on(tmp_path: Path) -> None:
    path = tmp_path / "directory" / "log"
    path.parent.mkdir()
    output = LogOutput(notice, path)
    held = path.open("rb")
    path.unlink()
    path.parent.rmdir()

    output.write(b"line\n")
    output.close()

    with held:
        assert held.read() == b"line\n"


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(OSError, match="No such device"):
        LogOutput(notice, tmp_path / "fifo")


def test_a_record_that_cannot_be_formatted_is_told_and_not_raised(tmp_path: Path) -> None:
    output = LogOutput(notice, tmp_path / "log")
    handler = LogHandler(output)

    handler.handle(logging.LogRecord("x", logging.INFO, "where.py", 3, "%d", ("text",), None))
    handler.close()

    assert (tmp_path / "log").read_text() == (
        "a log record made at where.py:3 can't be formatted: TypeError\n"
    )


def test_threads_may_log_at_the_same_time(tmp_path: Path) -> None:
    output = LogOutput(notice, tmp_path / "log")
    handler = LogHandler(output)

    def log() -> None:
        for number in range(200):
            handler.handle(logging.LogRecord("x", logging.INFO, "", 1, str(number), None, None))

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.close()

    assert sorted((tmp_path / "log").read_text().split(), key=int) == [
        str(number) for number in range(200) for _ in range(4)
    ]
