"""Graphs that are named on the command line: MODULE:DAG, and arguments of a function that makes one."""
