"""A node's messages about a value that it can't get."""

from collections.abc import Sequence
from typing import Literal

from handoff_actors.core.node.failures import failure
from handoff_actors.core.node.scheduling.fair_queue import tickets_of
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Job
from handoff_actors.wire.messages.runs import Copied, Failed, Recalled


def missing_reports(
    run: RunId,
    index: Index,
    jobs: Sequence[Job],
    kind: Literal["input", "unreachable", "store"],
    reason: str,
    *,
    is_copy: bool,
) -> list[Failed | Recalled | Copied]:
    """The messages about a value that can't be had: `jobs` have waited for it, and `is_copy` tells if it was to be copied."""
    lost = None if kind == "store" else index
    reports: list[Failed | Recalled | Copied] = [failure(run, job, kind, reason, lost=lost) for job in jobs]
    behind = [ticket for job in jobs for ticket in tickets_of(job)[1:]]
    reports += [Recalled(run, behind, is_separated=True)] if behind else []
    reports += [Copied(run, [], [index])] if is_copy else []
    return reports
