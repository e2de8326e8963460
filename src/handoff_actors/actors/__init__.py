"""The shell: socket -> machine -> effects. Nothing here decides."""

from handoff_actors.platforms import check_sessions_run_here

# Of all that is here, nothing could be imported on Windows.
check_sessions_run_here()
