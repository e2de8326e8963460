"""What is in a node's directories, for tests."""

from pathlib import Path

from handoff_actors.store.directories import MARKER


def values_in(directory: Path, pattern: str = "*") -> list[Path]:
    """Its files, but for the marker that says whose it is."""
    return [path for path in directory.glob(pattern) if path.name != MARKER]
