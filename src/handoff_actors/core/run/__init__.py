"""Decisions about one run."""
