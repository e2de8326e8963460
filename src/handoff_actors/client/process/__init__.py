"""The process in which an app runs: its threads, forks, signals and tracebacks."""
