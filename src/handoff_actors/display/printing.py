"""Write what the functions of a run print and log to the app's own output, with their names in front.

Nodes and functions may be other people's, and the output is the app's terminal: names, and lines unless the user wants
them raw, are escaped here, as the last step before they are written.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Final, NamedTuple, assert_never

from handoff_actors import events
from handoff_actors.display.display import display, write_lines, write_record, write_text
from handoff_actors.escaping import escape_name, escape_text
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Attempt, FunctionId, Index
from handoff_actors.text import str_of
from handoff_actors.token_bucket import TokenBucket
from handoff_actors.wire.messages.jobs import Dropped, Logged, OutputPart, Printed

#: Bytes that the functions of one run may print beyond their rate, and bytes per second.
BURST_NBYTES: Final = 1024 * 1024
RATE_NBYTES: Final = 1024 * 1024
#: Losses are told no more often than that, and at the end.
LOSSES_EVERY_S: Final = 5.0
_MOST_PENDING: Final = 64 * 1024
#: Characters of an id in front of each line.
_MOST_OF_ID: Final = 200


class _PrintedStream(NamedTuple):
    node: str
    function: Index
    attempt: Attempt
    is_error: bool


class OutputPrinter:
    """The output of one run."""

    def __init__(
        self, plan: Plan, on_event: Callable[[events.RunEvent], object] | None, *, is_raw: bool
    ) -> None:
        self._plan = plan
        self._escape = str if is_raw else escape_text
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._begun: dict[_PrintedStream, str] = {}
        self._lost: dict[tuple[str, Index], int] = {}
        self._reported_at = self._loop.time()
        self._bucket = TokenBucket(BURST_NBYTES, RATE_NBYTES, self._reported_at)
        self.has_written = False

    def output_received(self, node: str, said: Sequence[OutputPart]) -> None:
        """Write lines that functions on a node have printed or logged."""
        for part in said:
            match part:
                case Printed(index, attempt, is_error, text):
                    self._print(_PrintedStream(node, index, attempt, is_error), text)
                case Logged():
                    self._log(node, part)
                case Dropped(index, _, lines):
                    self._lose(node, index, lines)
                case _:
                    assert_never(part)
        if self._lost and self._loop.time() > self._reported_at + LOSSES_EVERY_S:
            self._report_losses()

    def end(self) -> None:
        """Nothing more comes."""
        for stream in list(self._begun):
            self._print(stream, "\n")
        self._report_losses()

    def _print(self, stream: _PrintedStream, text: str) -> None:
        *lines, rest = (self._begun.pop(stream, "") + text).split("\n")
        if len(rest) > _MOST_PENDING:
            lines.append(rest)
        elif rest:
            self._begun[stream] = rest
        if not lines:
            return
        name = self._name(stream.node, stream.function)
        texts = [name + self._escape(f"{line}\n") for line in lines]
        written = 0
        if self._has_room(sum(map(len, texts))):
            written = write_lines(texts, self._context, is_error=stream.is_error)
            self._report_lines(stream, "stderr" if stream.is_error else "stdout", lines[:written])
        if written < len(lines):
            self._lose(stream.node, stream.function, len(lines) - written)

    def _log(self, node: str, logged: Logged) -> None:
        function_id = self._id_of(logged.index)
        record = logging.makeLogRecord(
            {
                # Formatters show these names, too.
                "name": escape_name(logged.name),
                "levelno": logged.level,
                "levelname": logging.getLevelName(logged.level),
                "msg": self._name(node, logged.index) + self._escape(logged.message),
                "pathname": escape_name(logged.path),
                "filename": escape_name(logged.path.rpartition("/")[2]),
                "lineno": logged.line,
                "funcName": escape_name(logged.function),
                "created": logged.created,
                "exc_text": self._escape(logged.error) or None,
                "handoff_node": node,
                "handoff_function": function_id,
            }
        )
        stream = _PrintedStream(node, logged.index, logged.attempt, is_error=True)
        nbytes = len(logged.message) + len(logged.error)
        if self._has_room(nbytes) and display.write(partial(write_record, record), nbytes):
            self._report_lines(stream, "log", [logged.message])
        else:
            self._lose(node, logged.index, 1)

    def _has_room(self, nbytes: int) -> bool:
        has_room = self._bucket.take(nbytes, self._loop.time())
        self.has_written |= has_room
        return has_room

    def _report_lines(self, stream: _PrintedStream, kind: str, lines: list[str]) -> None:
        if self._on_event is None:
            return
        for line in lines:
            event = events.Output(
                dag_id=self._plan.dag_id,
                time=time.time(),
                function_id=self._id_of(stream.function),
                node=stream.node,
                attempt=stream.attempt,
                stream=kind,
                line=line,
            )
            self._on_event(event)

    def _lose(self, node: str, index: Index, lines: int) -> None:
        self._lost[node, index] = self._lost.get((node, index), 0) + lines

    def _report_losses(self) -> None:
        self._reported_at = self._loop.time()
        lost, self._lost = self._lost, {}
        for (node, index), lines in lost.items():
            text = f"{self._name(node, index)}({lines} more lines were lost: too much output at once)\n"
            display.write(partial(write_text, text, self._context, is_error=True), 0)
            self.has_written = True
            if self._on_event is not None:
                event = events.OutputLost(
                    dag_id=self._plan.dag_id,
                    time=time.time(),
                    function_id=self._id_of(index),
                    node=node,
                    lines=lines,
                )
                self._on_event(event)

    def _name(self, node: str, index: Index) -> str:
        return escape_name(f"[{node} {str_of(self._id_of(index), _MOST_OF_ID)}] ")

    def _id_of(self, index: Index) -> FunctionId:
        return self._plan.ids[index] if index < self._plan.size else None
