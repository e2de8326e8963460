"""Logs the functions of a run that have failed for good.

An app that has not set up logging gets no such lines on stderr: it gets the errors themselves.
"""

import logging
from typing import Final

from handoff_actors.core.run.view import RunView
from handoff_actors.ids import RunId
from handoff_actors.text import dag_name_of, shortened, str_of

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())

#: Functions of one run that are named.
_MOST_NAMED: Final = 20
_MOST_OF_REASON: Final = 500


def log_failures(run: RunId, view: RunView) -> None:
    """Write a line for each function that has failed for good, as far as they are few."""
    failures = view.failures
    if not failures:
        return
    of_run = {"run": f"{run:016x}", "dag": dag_name_of(view.plan.dag_id)}
    for index in list(failures)[:_MOST_NAMED]:
        reason = shortened(str_of(failures[index].error), _MOST_OF_REASON)
        fields = {"function": str_of(view.plan.ids[index]), "reason": reason}
        log.warning("function failed for good", extra=of_run | fields)
    if len(failures) > _MOST_NAMED:
        log.warning("more functions failed for good", extra=of_run | {"functions": len(failures)})
