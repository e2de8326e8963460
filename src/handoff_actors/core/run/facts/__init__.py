"""The facts of a run: its functions and their phases, values and stories. Nothing here decides."""
