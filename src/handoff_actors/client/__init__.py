"""The app's side of a cluster: sessions, runs as their callers see them, and the options of both."""

from handoff_actors.platforms import check_sessions_run_here

# Of all that is here, nothing could be imported on Windows.
check_sessions_run_here()
