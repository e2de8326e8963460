"""A cluster on the whole terminal, and the key that ends it."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from handoff_actors.actors.node.cluster_monitor import MonitoredNode
from handoff_actors.cli.monitor.standing import (
    complaints,
    function_rows,
    kept_objects,
    stage_rows,
    standings,
    summary,
)
from handoff_actors.cli.monitor.tables import (
    live_function_table,
    live_node_table,
    live_run_table,
    live_stage_table,
)
from handoff_actors.report.table import count

#: Lines that a table takes beside its rows.
_FRAME_LINES: Final = 4
#: Summary and help.
_TEXT_LINES: Final = 2
_LEAST_ROWS: Final = 1
_MOST_LINES: Final = 3
#: Lines of the terminal for each stage, and for each function that reports progress.
_HEIGHT_PER_FUNCTION: Final = 5


class Screen:
    """Draws a cluster on the terminal. Use with `with`, within a running loop. `quit_asked` is called at each q."""

    def __init__(self, quit_asked: Callable[[], None]) -> None:
        self._quit_asked = quit_asked
        self._console = Console()
        self._members: Sequence[MonitoredNode] | None = None
        self._live = Live(
            get_renderable=self._picture, console=self._console, screen=True, auto_refresh=False
        )
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        with ExitStack() as closing:
            if sys.stdin.isatty():
                # Opened anew: the loop reads without blocking, and stdout shares that of stdin with the shell.
                keyboard = os.open(os.ttyname(sys.stdin.fileno()), os.O_RDONLY | os.O_NOCTTY)
                closing.callback(os.close, keyboard)
                before = termios.tcgetattr(keyboard)
                closing.callback(termios.tcsetattr, keyboard, termios.TCSADRAIN, before)
                tty.setcbreak(keyboard)
                loop.add_reader(keyboard, self._typed, keyboard)
                closing.callback(loop.remove_reader, keyboard)
            closing.enter_context(self._live)
            loop.add_signal_handler(signal.SIGWINCH, self._live.refresh)
            closing.callback(loop.remove_signal_handler, signal.SIGWINCH)
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def show(self, members: Sequence[MonitoredNode]) -> None:
        """Draw these members from now on."""
        self._members = members
        self._live.refresh()

    def _typed(self, descriptor: int) -> None:
        keys = os.read(descriptor, 1024)
        # No bytes: the terminal is gone.
        if not keys or b"q" in keys.lower():
            self._quit_asked()

    def _picture(self) -> RenderableType:
        if self._members is None:
            return Text("looking...")
        nodes, runs = self._members, list(standings(self._members).items())
        lines = [*complaints(nodes), *kept_objects(nodes)][:_MOST_LINES]
        most = self._console.height // _HEIGHT_PER_FUNCTION
        stages, functions = stage_rows(nodes)[:most], function_rows(nodes)[:most]
        used = (
            _TEXT_LINES + len(lines) + sum(_FRAME_LINES + len(rows) for rows in (stages, functions) if rows)
        )
        room = self._console.height - used - _FRAME_LINES * (2 if runs else 1)
        shown_runs = min(len(runs), max(_LEAST_ROWS, room - len(nodes), room // 3))
        shown_nodes = min(len(nodes), max(_LEAST_ROWS, room - shown_runs))
        return Group(
            Text(summary(nodes), no_wrap=True, overflow="ellipsis"),
            live_node_table(nodes[:shown_nodes]),
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines),
            *([live_run_table(runs[:shown_runs])] if runs else []),
            *([live_stage_table(stages)] if stages else []),
            *([live_function_table(functions)] if functions else []),
            Text(_help(len(nodes) - shown_nodes, len(runs) - shown_runs), style="dim"),
        )


def _help(more_nodes: int, more_runs: int) -> str:
    more = [count(more_nodes, "more node")] if more_nodes else []
    more += [count(more_runs, "more run")] if more_runs else []
    return "; ".join([*more, "q: quit"])
