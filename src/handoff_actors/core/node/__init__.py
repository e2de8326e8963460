"""Decisions of one node."""
