"""Decisions: pure state machines that take an event and a time and return effects."""
