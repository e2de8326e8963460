"""Decide whose files are trusted: this user's and root's, since root can do anything here anyway."""

import os
import stat
from pathlib import Path
from typing import Final

_ROOT: Final = 0


def is_trusted(user: int) -> bool:
    """True if files of this user id are trusted as much as one's own."""
    return user in {os.geteuid(), _ROOT}


def foreign_link(path: str | os.PathLike[str]) -> Path | None:
    """Return the first part of a path that is another user's link, and so may lead anywhere; None if there is none.

    Raises FileNotFoundError, OSError.
    """
    whole = Path(path).absolute()
    for part in (*reversed(whole.parents), whole):
        facts = part.lstat()
        if stat.S_ISLNK(facts.st_mode) and not is_trusted(facts.st_uid):
            return part
    return None
