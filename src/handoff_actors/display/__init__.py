"""Display of runs in an app: their progress, and the output of their functions."""
