"""Decide whose files are trusted: this user's and root's, since root can do anything here anyway."""

import os
import stat
from pathlib import Path
from typing import Final

_ROOT: Final = 0


def is_trusted(user: int) -> bool:
    """Whether what this user id owns is as good as one's own."""
    return user in {os.geteuid(), _ROOT}


def foreign_link(path: str | os.PathLike[str]) -> Path | None:
    """The first part of a path that is a link of another user's, and so may lead anywhere; None if there is none.

    Raises FileNotFoundError, OSError.
    """
    whole = Path(path).absolute()
    for part in (*reversed(whole.parents), whole):
        facts = part.lstat()
        if stat.S_ISLNK(facts.st_mode) and not is_trusted(facts.st_uid):
            return part
    return None
