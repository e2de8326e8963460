"""An app's side: the session, runs as their callers see them, and the options of both."""
