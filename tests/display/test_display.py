"""The thread that writes: what it does when something goes wrong, and at the end of the process."""

import io
import multiprocessing
import sys
import threading
from contextvars import copy_context
from functools import partial

import pytest

from handoff_actors.display.display import (
    MOST_WAITING_NBYTES,
    Display,
    display as own_display,
    write_lines,
    write_text,
)
from handoff_actors.token_bucket import TokenBucket


def settle(display: Display) -> None:
    """Returns once all that waits is written."""
    is_written = threading.Event()
    display.write(is_written.set, 0)
    assert is_written.wait(10)


def test_it_writes_in_order_and_ends_when_there_is_nothing_left() -> None:
    display = Display()
    written: list[int] = []

    for number in range(100):
        assert display.write(partial(written.append, number), 10)
    display.finish()

    assert written == list(range(100))
    assert display._thread is None


def test_what_there_is_no_room_for_is_refused() -> None:
    display = Display()
    gate = threading.Event()

    first = display.write(gate.wait, MOST_WAITING_NBYTES)
    second = display.write(gate.wait, 1)
    gate.set()
    settle(display)

    assert (first, second) == (True, False)
    assert display.write(gate.wait, 1)


@pytest.mark.parametrize("error", [OSError, ValueError, KeyError, SystemExit, KeyboardInterrupt])
def test_a_stream_that_raises_ends_nothing(
    error: type[BaseException], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Others may have complained just before.
    monkeypatch.setattr("handoff_actors.display.display._complaints", TokenBucket(1, 1, 0.0))
    display = Display()

    def fail() -> None:
        raise error("no")

    display.write(fail, 1)
    settle(display)

    # An error of an app's own handler is printed; a stream without a reader is ignored.
    shown = capfd.readouterr().err
    assert (error.__name__ in shown) == (error not in {OSError, ValueError})


class Tee:
    """What scripts put in the place of sys.stdout: it has `write`, and nothing else."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines.append(text)


class AnswersAll(Tee):
    def __getattr__(self, name: str) -> object:
        raise LookupError(name)


class HasOddDescriptor(Tee):
    def fileno(self) -> object:
        return "one"


@pytest.mark.parametrize("kind", [Tee, AnswersAll, HasOddDescriptor])
def test_a_stream_needs_nothing_but_write(kind: type[Tee], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = kind()
    monkeypatch.setattr(sys, "stdout", stream)

    count = write_lines(["one\n", "two\n"], copy_context(), is_error=False)

    assert (count, stream.lines) == (2, ["one\n", "two\n"])


class Failing(Tee):
    def write(self, text: str) -> None:
        super().write(text)
        raise SystemExit("no more")


@pytest.mark.parametrize("stream", [Failing(), object(), None])
def test_lines_for_a_stream_that_takes_none_are_dropped_one_by_one(
    stream: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)

    count = write_lines(["one\n", "two\n"], copy_context(), is_error=False)

    assert count == 2
    assert not isinstance(stream, Failing) or stream.lines == ["one\n", "two\n"]


def test_characters_that_the_app_cannot_encode_are_shown_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, encoding="ascii"))

    write_lines(["naïve\n"], copy_context(), is_error=False)

    assert taken.getvalue() == b"na\\xefve\n"


def test_two_threads_may_write_for_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    is_within, gate = threading.Event(), threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            is_within.set()
            gate.wait(10)
            return super().write(text)

    slow, quick, context = Slow(), io.StringIO(), copy_context()
    monkeypatch.setattr(sys, "stderr", slow)
    monkeypatch.setattr(sys, "stdout", quick)
    thread = threading.Thread(target=partial(write_text, "slow", context, is_error=True))
    thread.start()
    assert is_within.wait(10)

    write_text("quick", context, is_error=False)
    gate.set()
    thread.join()

    assert (slow.getvalue(), quick.getvalue()) == ("slow", "quick")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_begins_anew() -> None:
    gate = threading.Event()
    own_display.write(gate.wait, 1)
    child = multiprocessing.get_context("fork").Process(target=settle, args=(own_display,))
    child.start()
    child.join(10)
    gate.set()
    settle(own_display)

    assert child.exitcode == 0
