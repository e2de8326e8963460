"""The outcome of a run, as `handoff run` prints it."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from reprlib import Repr
from typing import Any

from handoff_actors.client.run import Run
from handoff_actors.errors import FunctionFailed, HandoffError, RemoteTraceback
from handoff_actors.escaping import escape_name, escape_text
from handoff_actors.ids import FunctionId
from handoff_actors.report.function_report import FunctionReport

#: Keeps a large result from filling the screen.
_short = Repr()
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = 100
_short.maxstring = _short.maxother = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run that succeeded."""

    dag_id: FunctionId
    results: Mapping[FunctionId, Any]
    functions: Mapping[FunctionId, FunctionReport]

    @classmethod
    def of(cls, run: Run, shown: Iterable[FunctionId]) -> "Outcome":
        """Take the results to show, and the report, from a run."""
        return cls(
            run.dag_id, {function_id: run.results[function_id] for function_id in shown}, dict(run.report)
        )

    def lines(self) -> str:
        """The results, one a line."""
        return "\n".join(
            # A repr of a user's own may be anything.
            f"{escape_name(str(function_id))} = {escape_text(_short.repr(value))}"
            for function_id, value in self.results.items()
        )

    def summary(self) -> str:
        """Time of the run, and number of functions by node."""
        took = max((report.finished_at for report in self.functions.values()), default=0.0)
        shares = Counter(report.node for report in self.functions.values())
        nodes = ", ".join(f"{escape_name(node)} ({count})" for node, count in sorted(shares.items()))
        reused = sum(report.attempts == 0 for report in self.functions.values())
        sparing = f", {reused} of them reused," if reused else ""
        return f"{len(self.functions)} function(s){sparing} in {took:.3f} s on {nodes}"

    def json(self) -> str:
        """The outcome as JSON; a result that JSON does not know is its repr."""
        return json.dumps(
            {
                "dag": str(self.dag_id),
                "results": {str(function_id): _plain(value) for function_id, value in self.results.items()},
                "functions": {
                    str(function_id): asdict(report) | {"function_id": str(function_id)}
                    for function_id, report in self.functions.items()
                },
            },
            default=repr,
            indent=2,
        )


def failure_json(error: HandoffError) -> str:
    """An error as JSON, for programs."""
    facts: dict[str, object] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, FunctionFailed):
        facts |= {"function": str(error.function_id), "node": error.node, "attempts": error.attempts}
    return json.dumps({"error": facts | {"traceback": remote_traceback(error)}}, indent=2)


def remote_traceback(error: BaseException) -> str | None:
    """The traceback on a node, if the error was raised there."""
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, RemoteTraceback):
            return cause.text
        cause = cause.__cause__
    return None


def _plain(value: Any) -> Any:
    try:
        json.dumps(value, default=repr)
    except (TypeError, ValueError):
        return repr(value)
    return value
