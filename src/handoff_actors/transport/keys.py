"""The cluster key: the one secret that makes a machine a member, and the secrets derived from it."""

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Self

from handoff_actors.errors import InvalidKeyError
from handoff_actors.process.ownership import foreign_link, is_trusted, other_reader

#: Names the format, so that a key of a later format can be told from a mistyped key.
PREFIX: Final = "handoff1-"
KEY_VARIABLE: Final = "HANDOFF_KEY"
KEY_FILE_VARIABLE: Final = "HANDOFF_KEY_FILE"
#: The path of a file.
ALSO_ACCEPT_VARIABLE: Final = "HANDOFF_ALSO_ACCEPT"

#: The name, in errors, of a key that the program itself gave.
IN_THE_PROGRAM: Final = "the key given in the program"

_NBYTES: Final = 32
#: Longer files are no key files, and are not read to their end.
_MAX_FILE_BYTES: Final = 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITERS: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class ClusterKey:
    """A cluster's secret. `str` and `repr` do not show it; `text()` does."""

    __slots__ = ("_secret", "also_accepted", "origin")

    def __init__(self, secret: bytes, origin: str = IN_THE_PROGRAM) -> None:
        if len(secret) != _NBYTES:
            raise InvalidKeyError(
                f"the cluster key is cut short or mistyped: it has {len(secret)} bytes instead of {_NBYTES}"
            )
        self._secret = secret
        #: The source of the key, for errors.
        self.origin = origin
        #: See `accepting`.
        self.also_accepted: ClusterKey | None = None

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness."""
        return cls(secrets.token_bytes(_NBYTES))

    @classmethod
    def from_text(cls, text: str, origin: str = IN_THE_PROGRAM) -> Self:
        """Read a key that is written as one line. Raises InvalidKeyError, which does not quote it."""
        stripped = text.strip()
        if not stripped.startswith(PREFIX):
            raise InvalidKeyError(
                f"this is not a cluster key: one begins with {PREFIX!r}; `handoff keygen` makes one"
            )
        try:
            padded = stripped.removeprefix(PREFIX).encode("ascii") + b"="
            secret = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            # Not from the error: that of an encoding quotes the text.
            raise InvalidKeyError("the cluster key is cut short or mistyped; copy all of it anew") from None
        return cls(secret, origin)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read the key in a file of this user's, or root's, that no other user may read. See `other_reader` for groups.

        Raises InvalidKeyError, naming the file.
        """
        named = f"the key file {os.fspath(path)}"
        try:
            link = foreign_link(path)
            if link is not None:
                raise InvalidKeyError(
                    f"{named} is reached through a link of user {link.lstat().st_uid}, {link}"
                )
            # Opening a FIFO without a writer would block.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidKeyError(f"{named} cannot be read: {error.strerror}") from error
        try:
            return cls.from_descriptor(descriptor, named, os.fspath(path))
        finally:
            os.close(descriptor)

    @classmethod
    def from_descriptor(cls, descriptor: int, named: str, path: str) -> Self:
        """Read the key in an open file, under the same conditions as `from_file`. Raises InvalidKeyError."""
        facts = os.fstat(descriptor)
        mode = stat.S_IMODE(facts.st_mode)
        # A shell's <(command) is a pipe of the user's own.
        if not (stat.S_ISREG(facts.st_mode) or stat.S_ISFIFO(facts.st_mode)):
            raise InvalidKeyError(f"{named} is not a file")
        if not is_trusted(facts.st_uid):
            raise InvalidKeyError(
                f"{named} belongs to user {facts.st_uid}, who knows the key and may change it; copy it to a file of your own"
            )
        if reader := _other_reader(descriptor, facts):
            raise InvalidKeyError(
                f"{named} has mode {mode:04o}, so {reader} may read it: chmod 600 {path}; or, if it is a secret of "
                "Kubernetes, set `defaultMode: 0400`, and for a user other than root `fsGroup`, and if it is one of "
                "Docker, set `mode: 0400` and `uid`"
            )
        os.set_blocking(descriptor, True)
        try:
            content = os.read(descriptor, _MAX_FILE_BYTES)
        except OSError as error:
            raise InvalidKeyError(f"{named} cannot be read: {error.strerror}") from error
        try:
            return cls.from_text(content.decode("ascii", errors="replace"), named)
        except InvalidKeyError as error:
            raise InvalidKeyError(f"{named}: {error}") from None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Read the key in HANDOFF_KEY, or in the file that HANDOFF_KEY_FILE names; None where neither is set.

        Raises InvalidKeyError.
        """
        if text := environment.get(KEY_VARIABLE):
            try:
                return cls.from_text(text, f"the key in {KEY_VARIABLE}")
            except InvalidKeyError as error:
                raise InvalidKeyError(f"{KEY_VARIABLE}: {error}") from None
        path = environment.get(KEY_FILE_VARIABLE)
        return cls.from_file(path) if path else None

    @classmethod
    def also_accepted_in(cls, environment: Mapping[str, str]) -> Self | None:
        """Read the key in the file that HANDOFF_ALSO_ACCEPT names, if it does. Raises InvalidKeyError."""
        path = environment.get(ALSO_ACCEPT_VARIABLE)
        return cls.from_file(path) if path else None

    def accepting(self, other: "ClusterKey") -> Self:
        """Return this key along with another one that members may have, while a cluster's key is being replaced.

        A process with both lets in holders of either, and connects to members that hold either.
        """
        combined = type(self)(self._secret, self.origin)
        combined.also_accepted = None if other == self else other
        return combined

    def text(self) -> str:
        """The key as one line, for handing it to a member."""
        return PREFIX + base64.urlsafe_b64encode(self._secret).decode("ascii").rstrip("=")

    def derive(self, role: str) -> bytes:
        """Derive a 32-byte secret for one role, which reveals neither the key nor another role's secret."""
        return blake2b(role.encode(), key=self._secret, digest_size=_NBYTES).digest()

    def write_to(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file that only its owner may read. Raises FileExistsError, OSError."""
        with open(path, "x", encoding="ascii", opener=_open_private) as file:
            file.write(self.text() + "\n")

    def __repr__(self) -> str:
        return "<ClusterKey>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClusterKey) and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._secret)

    def __reduce__(self) -> str:
        raise TypeError("a cluster key is not pickled: it would travel to wherever the pickle goes")


def _other_reader(descriptor: int, facts: os.stat_result) -> str:
    """Return who may read a key file of this user's or root's, beside these two; "" if nobody may.

    A file of root's that nobody may write to may be for a group: so Kubernetes and systemd hand secrets to other users.
    """
    if not facts.st_mode & _OTHERS:
        return ""
    is_secret = facts.st_uid == 0 and not facts.st_mode & (_WRITERS | stat.S_IRWXO | stat.S_IXGRP)
    return other_reader(descriptor) if is_secret else "others"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
