"""Decide whose files are trusted: this user's and root's, since root can do anything here anyway."""

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_ROOT: Final = 0

#: The access control list of a file as the kernel gives it, see acl(5): a version, then tag, permissions and id of each entry.
_ACL: Final = "system.posix_acl_access"
_ACL_HEADER: Final = 4
_ACL_ENTRY: Final = struct.Struct("<HHI")
_A_USER, _THE_GROUP, _A_GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
_READ: Final = 4


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


def other_reader(descriptor: int) -> str:
    """Return who, beside this user and root, may read an open file that is not for everyone; "" if nobody may.

    Groups may only be this process's own, without another user known to be in them. Those of a container have no others.
    """
    facts = os.fstat(descriptor)
    users, groups = _readers(descriptor, facts)
    foreign = next((user for user in users if not is_trusted(user)), None)
    if foreign is not None:
        return f"user {foreign}"
    own = {os.getegid(), *os.getgroups()}
    for group in groups:
        if group not in own:
            return f"group {group}"
        if member := next(_others_in(group), ""):
            return f"user {member}, of group {group},"
    return ""


def _readers(descriptor: int, facts: os.stat_result) -> tuple[list[int], list[int]]:
    """The users and groups that may read an open file, beside its owner."""
    acl = b""
    if hasattr(os, "getxattr"):
        # There seldom is a list, and some file systems have none.
        with suppress(OSError):
            acl = os.getxattr(descriptor, _ACL)
    entries = list(_ACL_ENTRY.iter_unpack(acl[_ACL_HEADER:]))
    if not entries:
        return [], [facts.st_gid] if facts.st_mode & stat.S_IRGRP else []
    mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), _READ)
    readers = [(tag, owner) for tag, permissions, owner in entries if permissions & mask & _READ]
    users = [owner for tag, owner in readers if tag == _A_USER]
    groups = [owner for tag, owner in readers if tag == _A_GROUP]
    return users, groups + [facts.st_gid for tag, _ in readers if tag == _THE_GROUP]


def _others_in(group: int) -> Iterator[str]:
    """The users in a group, beside this one and root, as far as the system lists them."""
    # Few files are for groups.
    import grp  # noqa: PLC0415
    import pwd  # noqa: PLC0415

    with suppress(KeyError):
        for name in grp.getgrgid(group).gr_mem:
            with suppress(KeyError):
                if not is_trusted(pwd.getpwnam(name).pw_uid):
                    yield name
    for user in pwd.getpwall():
        if user.pw_gid == group and not is_trusted(user.pw_uid):
            yield user.pw_name
