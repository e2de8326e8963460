"""Reports of runs: where the time of each function went, as tables, traces and pictures."""
