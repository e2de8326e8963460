"""The installation that runs here as packages to send: a wheel of its own, and a zip of its dependencies' files.

The files are those that are installed, or of the source tree where the installation is editable, so nothing is fetched.
"""

import base64
import hashlib
import io
import re
import sysconfig
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from msgspec import Struct

import handoff_actors
from handoff_actors.errors import HandoffError
from handoff_actors.wire.versions import VERSION

_PROJECT: Final = "handoff-actors"
_INFO: Final = f"handoff_actors-{VERSION}.dist-info"
WHEEL: Final = f"handoff_actors-{VERSION}-py3-none-any.whl"
_NAME: Final = re.compile(r"[\w.-]+")
#: Files with the same time give the same bytes each time.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
#: Two thirds of the time, for a tenth more to send.
_QUICK: Final = 1
_SKIPPED: Final = frozenset({"__pycache__"})


class Bundle(Struct, frozen=True):
    """The packages as text for JSON."""

    wheel: str
    content: str
    #: None: some of them can't be packed here, or are not wanted.
    dependencies: str | None


def own_abi() -> str:
    """The build of this Python, equal for those that can load the same extension modules."""
    return str(sysconfig.get_config_var("SOABI") or "")


@cache
def digest() -> str:
    """The digest of this installation's own files and its dependencies' versions."""
    hashed = hashlib.blake2b(digest_size=8)
    for path, name in _own_files():
        hashed.update(name.encode() + b"\0" + path.read_bytes())
    for one in _dependencies():
        hashed.update(f"{one.metadata['Name']} {one.version}".encode())
    return hashed.hexdigest()


@cache
def bundle(*, with_dependencies: bool) -> Bundle:
    """Pack this installation, which takes a second or two. Raises HandoffError if it is not known what it needs."""
    if _installed(_PROJECT) is None:
        raise HandoffError(
            f"this {_PROJECT} is not installed as a package ({Path(handoff_actors.__file__).parent}), so it is not known "
            "what it needs: --install can't send it"
        )
    packed = _packed_dependencies() if with_dependencies else None
    return Bundle(
        WHEEL,
        base64.b64encode(_wheel()).decode("ascii"),
        None if packed is None else base64.b64encode(packed).decode("ascii"),
    )


def _wheel() -> bytes:
    content = io.BytesIO()
    recorded: list[str] = []
    with zipfile.ZipFile(content, "w") as archive:

        def add(name: str, body: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, _TIME), body, zipfile.ZIP_DEFLATED, _QUICK)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode("ascii")
            recorded.append(f"{name},sha256={hashed},{len(body)}")

        for path, name in _own_files():
            add(name, path.read_bytes())
        add(f"{_INFO}/METADATA", _metadata().encode())
        add(
            f"{_INFO}/WHEEL",
            b"Wheel-Version: 1.0\nGenerator: handoff up\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        add(f"{_INFO}/entry_points.txt", b"[console_scripts]\nhandoff = handoff_actors.cli:main\n")
        archive.writestr(f"{_INFO}/RECORD", "\n".join([*recorded, f"{_INFO}/RECORD,,", ""]))
    return content.getvalue()


def _metadata() -> str:
    lines = [f"Requires-Dist: {requirement}" for requirement in _requirements(_PROJECT)]
    return "\n".join(
        [
            "Metadata-Version: 2.1",
            f"Name: {_PROJECT}",
            f"Version: {VERSION}",
            "Requires-Python: >=3.11",
            *lines,
            "",
        ]
    )


def _own_files() -> list[tuple[Path, str]]:
    root = Path(handoff_actors.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.is_file() and not _SKIPPED & {*path.parts})
    return [(path, f"{root.name}/{path.relative_to(root).as_posix()}") for path in files]


def _packed_dependencies() -> bytes | None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for one in _dependencies():
            # Those of a system's packages have no list of their files.
            if one.files is None:
                return None
            for file in one.files:
                path = Path(str(file.locate()))
                if ".." not in file.parts and not _SKIPPED & {*file.parts} and path.is_file():
                    archive.writestr(
                        zipfile.ZipInfo(file.as_posix(), _TIME),
                        path.read_bytes(),
                        zipfile.ZIP_DEFLATED,
                        _QUICK,
                    )
    return content.getvalue()


def _dependencies() -> list[Distribution]:
    """The installed packages that this one needs, and those that they need."""
    found: dict[str, Distribution] = {}
    waiting = [_PROJECT]
    while waiting:
        for requirement in _requirements(waiting.pop()):
            match = _NAME.match(requirement)
            assert match is not None
            name = re.sub(r"[-_.]+", "-", match[0]).lower()
            if name not in found and (one := _installed(name)) is not None:
                found[name] = one
                waiting.append(name)
    return [found[name] for name in sorted(found)]


def _requirements(name: str) -> Iterator[str]:
    """The requirements of a package here, conditions and all: one for other systems or Pythons is not installed anyway."""
    one = _installed(name)
    requirements = (one.requires or []) if one is not None else []
    return (requirement for requirement in requirements if "extra ==" not in requirement)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None
