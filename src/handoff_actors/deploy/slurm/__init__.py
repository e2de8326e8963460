"""Nodes in the jobs of Slurm."""
