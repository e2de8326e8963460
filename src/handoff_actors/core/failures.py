"""What a node says about attempts that did not end well."""

from handoff_actors.core.node_events import WorkerExited
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages import Failed, Job, Template


def failure(
    run: RunId,
    job: Job,
    kind: str,
    reason: str,
    *,
    error: bytes = b"",
    lost: Index | None = None,
    signal: int | None = None,
    exit_code: int | None = None,
    ran_s: float = 0.0,
) -> Failed:
    """What is said about an attempt that did not end well."""
    return Failed(run, job.index, job.attempt, kind, error, reason, lost, signal, exit_code, ran_s)


def too_long(template: Template) -> str:
    """For an attempt that was ended for its timeout."""
    return f"it did not end within its timeout of {template.timeout:g} s, and was stopped"


def how_it_ended(event: WorkerExited) -> str:
    """For an attempt whose worker died."""
    how = f"signal {event.signal}" if event.signal is not None else f"exit code {event.exit_code}"
    return f"the worker that ran it died by {how}"
