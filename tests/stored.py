"""The contents of a node's directories, for tests."""

from pathlib import Path

from handoff_actors.store.directories import MARKER


def values_in(directory: Path, pattern: str = "*") -> list[Path]:
    """The files of a node's directory, except for the marker that identifies it."""
    return [path for path in directory.glob(pattern) if path.name != MARKER]
