import pickle
import traceback

import pytest

import handoff_actors as handoff
from handoff_actors.errors import HandoffError, RemoteError, RemoteTraceback, reason_of

#: Sets the title, clears the screen, and turns what follows around.
HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e"
SHOWN = r"\x1b]0;title\x07\x1b[2J\u202e"


class Peculiar:
    """An id of a user's own, whose repr is not Python's."""

    def __repr__(self) -> str:
        return HOSTILE


ERRORS = [
    HandoffError(HOSTILE),
    handoff.InvalidFunctionError(Peculiar(), "no"),
    handoff.FunctionFailed("f", "n", 1, "no", printed=f"first\n{HOSTILE}"),
    handoff.ItemError(1, Peculiar(), HOSTILE, "worker", node=HOSTILE),
    handoff.NodeLost("n", HOSTILE),
    handoff.RunTimeout(1.0, 2),
    handoff.AllocationError("f", {}, {HOSTILE: {"cpu": 1.0}}, "needs more"),
    handoff.AuthenticationError(HOSTILE, "no"),
    handoff.ConnectionFailed(HOSTILE, HOSTILE),
    handoff.InsecureAddressError(HOSTILE),
    handoff.UnguardedStart("a run", HOSTILE),
    handoff.UnsupportedPlatform("macOS", HOSTILE),
    RemoteError("ValueError", HOSTILE),
    RemoteTraceback(f"Traceback:\nValueError: {HOSTILE}"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_text_of_an_error_does_nothing_to_a_terminal(error: Exception) -> None:
    printed = "".join(traceback.format_exception(error))

    assert all(line.isprintable() for line in [*str(error).split("\n"), *printed.split("\n")])
    assert SHOWN in str(error) or isinstance(error, handoff.RunTimeout)


def test_text_keeps_its_lines_and_colours() -> None:
    error = handoff.FunctionFailed("f", "n", 1, "no", printed="first\n\x1b[31mred\x1b[0m")

    assert str(error).endswith("\nfirst\n\x1b[31mred\x1b[0m")


FORGED = "n\nError: forged"


@pytest.mark.parametrize(
    "error",
    [
        handoff.AllocationError("f", {}, {FORGED: {"cpu": 1.0}}, "needs more"),
        handoff.AuthenticationError(FORGED, "no"),
        handoff.ConnectionFailed(FORGED, "no"),
        handoff.InsecureAddressError(FORGED),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_name_or_an_address_stays_in_its_line(error: handoff.HandoffError) -> None:
    assert r"n\nError: forged" in str(error)
    assert "\n" not in str(error)


def test_fields_are_as_they_were_said_here_and_in_another_process() -> None:
    error = handoff.FunctionFailed("f", HOSTILE, 1, HOSTILE, printed=HOSTILE)

    copy = pickle.loads(pickle.dumps(error))

    for one in (error, copy):
        assert (one.node, one.reason, one.printed) == (HOSTILE, HOSTILE, HOSTILE)
        assert HOSTILE in one.args[0]
    assert str(copy) == str(error)
    assert RemoteTraceback(HOSTILE).text == HOSTILE


# --- Errors of the system ---------------------------------------------------------------------------------------


def test_system_error_is_told_with_the_path_that_it_is_about() -> None:
    assert reason_of(PermissionError(13, "Permission denied", "/run/x")) == "Permission denied: /run/x"
    assert reason_of(PermissionError(13, "Permission denied", b"/run/x")) == "Permission denied: /run/x"
    assert reason_of(OSError(98, "Address in use")) == "Address in use"
    assert reason_of(OSError("only words")) == "only words"


# --- Items of streams -------------------------------------------------------------------------------------------


def test_error_of_an_item_names_it_and_the_function() -> None:
    error = handoff.ItemError(7, "detect", "ValueError: no frame", "exception", 2, "its rule", "node-a")

    copy = pickle.loads(pickle.dumps(error))

    assert str(error) == (
        "item 7 of the stream failed at function 'detect' on node 'node-a' after 2 attempt(s) (its rule): ValueError: no frame"
    )
    assert vars(copy) == vars(error)
    assert (copy.number, copy.function_id, copy.node, copy.attempts) == (7, "detect", "node-a", 2)
    assert (copy.kind, copy.reason, copy.not_retried) == ("exception", "ValueError: no frame", "its rule")


def test_error_of_an_item_says_what_to_do_where_that_helps() -> None:
    of_stream = handoff.ItemError(0, None, "no partner came within 2 s", "join_timeout")
    of_worker = handoff.ItemError(0, "f", "its worker died", "worker", 4)

    assert str(of_stream) == "item 0 of the stream failed: no partner came within 2 s"
    assert str(of_worker).endswith("await handoff.call(code, value)")
