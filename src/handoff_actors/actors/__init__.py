"""The shell: socket -> machine -> effects. Nothing here decides."""
