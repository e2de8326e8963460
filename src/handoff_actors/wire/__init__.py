"""The protocol: every message on every socket, and its encoding as bytes."""
