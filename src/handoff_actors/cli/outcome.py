"""The outcome of a run, as `handoff run` prints it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

from handoff_actors.cli.json_values import json_keys, to_json
from handoff_actors.cli.records import functions_by_id
from handoff_actors.client.run import Run
from handoff_actors.errors import RemoteTraceback
from handoff_actors.escaping import escape_name, escape_text
from handoff_actors.ids import FunctionId
from handoff_actors.report.function_report import FunctionReport
from handoff_actors.text import str_of

#: Keeps a large result from filling the screen.
_short = Repr()
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = 100
_short.maxstring = _short.maxother = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run that has ended."""

    dag_id: FunctionId
    results: Mapping[FunctionId, Any]
    functions: Mapping[FunctionId, FunctionReport]

    @classmethod
    def of(cls, run: Run, shown: Iterable[FunctionId]) -> "Outcome":
        """Take the results to show, and the report, from a run."""
        return cls(run.dag_id, {function_id: run.results[function_id] for function_id in shown}, run.report)

    def lines(self) -> str:
        """The results, one a line."""
        return "\n".join(
            # A repr of a user's own may be anything.
            f"{escape_name(str(function_id))} = {escape_text(_short.repr(value))}"
            for function_id, value in self.results.items()
        )

    def summary(self) -> str:
        """Time of the run, and number of functions by node."""
        entries = list(self.functions.values())
        took = max((entry.finished_at for entry in entries), default=0.0)
        shares = Counter(entry.node for entry in entries)
        nodes = ", ".join(f"{escape_name(node)} ({count})" for node, count in sorted(shares.items()))
        reused = sum(entry.attempts == 0 for entry in entries)
        sparing = f", {reused} of them reused," if reused else ""
        return f"{len(entries)} function(s){sparing} in {took:.3f} s on {nodes}"

    def json(self) -> str:
        """The outcome as JSON."""
        keys = json_keys(self.results)
        return to_json(
            {
                "dag": str_of(self.dag_id),
                "results": dict(zip(keys, self.results.values(), strict=True)),
                "functions": functions_by_id(self.functions),
            },
            indent=2,
        )


def remote_traceback(error: BaseException) -> str | None:
    """The traceback on a node, if the error was raised there."""
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, RemoteTraceback):
            return cause.text
        cause = cause.__cause__
    return None
