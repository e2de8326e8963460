"""Runs to which an app adds functions while they go on, and the calls of a session."""
