import logging
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from handoff_actors.workers.child.records import send_records
from handoff_actors.workers.output_protocol import output_part

KEY = (7, 1, 1)


class _Output:
    """The part of an `OutputCapture` that records use."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def current(self) -> tuple[int, int, int]:
        return KEY

    def send(self, key: tuple[int, int, int], packed: bytes, lines: int) -> None:
        assert (key, lines) == (KEY, 1)
        assert len(packed) <= 4096
        _, said = output_part(msgpack.unpackb(packed, use_list=False))
        self.sent.append(SimpleNamespace(message=said[5], error=said[10]))


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> _Output:
    """What arrives of records that nothing but the handler of last resort takes."""
    output = _Output()
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    send_records(output)  # type: ignore[arg-type]
    return output


class Speechless:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture
def logger() -> logging.Logger:
    """A logger of which no handler of the tests' own hears."""
    return logging.Logger("apart")  # noqa: LOG001 - that is what it is for


@pytest.mark.parametrize("arguments", [("%d items", "many"), ("%s", Speechless()), ("%s and %s", 1)])
def test_a_wrong_log_call_is_complained_of_and_fails_nothing(
    arguments: tuple[object, ...], output: _Output, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.warning(*arguments)
    logger.warning("right")

    assert [record.message for record in output.sent] == ["right"]
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("data\udcff.csv", "data\\udcff.csv"),
        ("\udcff" * 300, "\\udcff"),
        ("nul\0", "nul\0"),
        ("x" * 10_000_000, " characters left out ... "),
        ("ü" * 10_000_000, " characters left out ... "),
    ],
    ids=["surrogate", "surrogates", "NUL", "long", "long and wide"],
)
def test_any_text_arrives_in_one_write(
    message: str, shown: str, output: _Output, logger: logging.Logger
) -> None:
    logger.name = f"name {message[:1000]}"
    error = ValueError(message)

    logger.warning(message, exc_info=(ValueError, error, None))

    [record] = output.sent
    assert shown in record.message
    assert "ValueError" in record.error
