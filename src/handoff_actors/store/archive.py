"""A directory as one value: packed by an app, unpacked by the first worker of a node that needs it."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

#: Files and directories that tools keep for themselves.
_LEFT_OUT: Final = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        "node_modules",
    }
)
_MEGABYTE: Final = 1e6
#: Above the mode bits in a zip entry's attributes.
_MODE_SHIFT: Final = 16


#: Files with this name, or one that goes on with a dot, are where programs keep secrets.
_SECRETS: Final = ".env"
#: The permission bits of a file's mode.
_PERMISSIONS: Final = 0o777


class TooLarge(Exception):
    """A directory is larger than the limit for sending it."""


class Withheld(Enum):
    """The reason why a file is not packed although no tool keeps it for itself."""

    PRIVATE = "it may hold secrets"
    ELSEWHERE = "it is a link that leads out of the directory"


class Packed(NamedTuple):
    """A directory as one value."""

    archive: bytes
    #: The files that stay where they are, and why.
    withheld: dict[Path, Withheld]


def pack(directory: Path, limit_nbytes: int, included: Collection[str] = ()) -> Packed:
    """Pack all files below a directory into an archive. Raises TooLarge, OSError.

    The archive leaves out files that version control and other tools keep for themselves, virtual environments, and
    anything that is not a file; `.env` and its like, except for names that are `included`; and links that lead elsewhere,
    or to directories.
    """
    total = 0
    withheld: dict[Path, Withheld] = {}
    archive = BytesIO()
    inside = directory.resolve()
    with ZipFile(archive, "w", ZIP_DEFLATED, compresslevel=1) as packed:
        for path in _files_below(directory):
            target = path.resolve()
            if not target.is_relative_to(inside):
                withheld[path] = Withheld.ELSEWHERE
                continue
            if f"{target.name}.".startswith(f"{_SECRETS}.") and path.name not in included:
                withheld[path] = Withheld.PRIVATE
                continue
            status = path.stat()
            total += status.st_size
            if total > limit_nbytes:
                raise TooLarge(f"there are more than {limit_nbytes / _MEGABYTE:g} MB in {str(directory)!r}")
            entry = ZipInfo(path.relative_to(directory).as_posix())
            entry.external_attr = (status.st_mode & _PERMISSIONS) << _MODE_SHIFT
            entry.compress_type = ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())
    return Packed(archive.getvalue(), withheld)


def _files_below(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if name not in _LEFT_OUT and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(names) if (here / name).is_file())


def unpack(archive: Path, target: Path) -> None:
    """Unpack an archive into a new directory, unless another process does so first. Raises OSError."""
    made = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        with ZipFile(archive) as packed:
            for entry in packed.infolist():
                path = Path(packed.extract(entry, made))
                # No mode bit may lend this user's rights to a program that another user packed.
                path.chmod(entry.external_attr >> _MODE_SHIFT & _PERMISSIONS | 0o600)
        _rename(made, target)
    except BadZipFile as error:
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _rename(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError:
        # A directory takes the place of an empty one only.
        if not target.is_dir():
            raise
