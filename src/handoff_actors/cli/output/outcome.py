"""The outcome of a run, as `handoff run` prints it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from reprlib import Repr
from typing import Any, Final

import click

from handoff_actors.cli.output.failures import TracedFailure, remote_traceback
from handoff_actors.cli.output.json_errors import error_fields
from handoff_actors.cli.output.json_values import json_keys, to_json
from handoff_actors.cli.output.records import functions_by_id
from handoff_actors.client.run import Run
from handoff_actors.errors import DependencyFailed, HandoffError
from handoff_actors.escaping import escape_name, escape_text
from handoff_actors.ids import FunctionId
from handoff_actors.report.function_report import FunctionReport
from handoff_actors.text import str_of

#: Errors of functions that are shown.
MOST_SHOWN: Final = 10
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
    #: Errors of functions without a result.
    failures: Mapping[FunctionId, HandoffError] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, shown: Iterable[FunctionId]) -> "Outcome":
        """Take the results to show, and the report, from a run."""
        results = {
            function_id: run.results[function_id] for function_id in shown if function_id in run.results
        }
        return cls(run.dag_id, results, run.report, run.failures)

    def lines(self) -> str:
        """The results, one a line."""
        return "\n".join(
            # A repr of a user's own may be anything.
            f"{escape_name(str(function_id))} = {escape_text(_short.repr(value))}"
            for function_id, value in self.results.items()
        )

    def show_failures(self) -> None:
        """Print the errors of functions on stderr. Those that depend on failed ones are only counted."""
        own = [error for error in self.failures.values() if not isinstance(error, DependencyFailed)]
        for error in own[:MOST_SHOWN]:
            TracedFailure(str(error), remote_traceback(error)).show()
        more, skipped = len(own) - MOST_SHOWN, len(self.failures) - len(own)
        if more > 0:
            click.echo(f"Error: {more} more function(s) failed", err=True)
        if skipped:
            click.echo(
                f"Error: {skipped} function(s) did not run, since they depend on failed ones", err=True
            )

    def summary(self) -> str:
        """Time of the run, and number of functions by node."""
        entries = list(self.functions.values())
        took = max((entry.finished_at for entry in entries), default=0.0)
        shares = Counter(entry.node for entry in entries if entry.node)
        nodes = ", ".join(f"{escape_name(node)} ({count})" for node, count in sorted(shares.items()))
        outcomes = Counter(entry.outcome for entry in entries)
        spared = [f"{outcomes[each]} of them {each}" for each in ("reused", "skipped") if outcomes[each]]
        sparing = f", {', '.join(spared)}," if spared else ""
        return f"{len(entries)} function(s){sparing} in {took:.3f} s on {nodes}"

    def json(self) -> str:
        """The outcome as JSON."""
        keys = json_keys(self.results)
        return to_json(
            {
                "dag": str_of(self.dag_id),
                "results": dict(zip(keys, self.results.values(), strict=True)),
                "failures": {
                    key: error_fields(error, remote_traceback(error))
                    for key, error in zip(json_keys(self.failures), self.failures.values(), strict=True)
                },
                "functions": functions_by_id(self.functions),
            },
            indent=2,
        )
