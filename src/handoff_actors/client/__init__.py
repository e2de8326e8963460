"""The app's side of a cluster: sessions, runs as their callers see them, and the options of both."""
