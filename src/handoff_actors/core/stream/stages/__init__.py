"""The stages of a stream: what waits there, and which of their workers gets it."""
