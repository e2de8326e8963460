"""The record, on the machine of the commands, of what `up` has started where: hosts, addresses, and the cluster's key.

It is in the user's state directory, and any number of commands may be at work at once.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from handoff_actors.deploy.ssh.conversation import SshCommand
from handoff_actors.errors import HandoffError, InvalidKeyError
from handoff_actors.transport.credentials import INSECURE_VARIABLE, Credentials
from handoff_actors.transport.keys import KEY_FILE_VARIABLE, ClusterKey
from handoff_actors.transport.user_key import state_home

_LOOKS_EVERY_S: Final = 0.1


class HostEntry(msgspec.Struct, frozen=True):
    """A host on which `up` has started a node, and the way to it."""

    address: str
    name: str
    #: Tells the keys of clusters apart, and reveals none.
    fingerprint: str
    ssh: SshCommand


class UpRecordError(HandoffError):
    """The record can't be read or kept."""


class UpRecord:
    """The hosts of this user's `up`, and the key that it has made for them. Methods raise UpRecordError."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = state_home() / "handoff" / "ssh" if directory is None else directory
        self.key_file = self._directory / "cluster.key"
        self._file = self._directory / "hosts.json"

    def hosts(self) -> dict[str, HostEntry]:
        """The hosts, in the order in which they came up first."""
        with self._errors():
            try:
                return msgspec.json.decode(self._file.read_bytes(), type=dict[str, HostEntry])
            except FileNotFoundError:
                return {}
            except msgspec.DecodeError as error:
                raise UpRecordError(f"{self._file} is damaged ({error}); remove it") from error

    def put(self, host: str, entry: HostEntry) -> None:
        """Record a host."""
        self._change(lambda hosts: hosts | {host: entry})

    def remove(self, host: str) -> None:
        """Forget a host; the key that was made goes with the last one."""
        self._change(lambda hosts: {name: entry for name, entry in hosts.items() if name != host})

    def key(self, environment: Mapping[str, str]) -> ClusterKey | None:
        """The key of the environment, unless that is the one made here; None if there is none. Raises InvalidKeyError."""
        if environment.get(KEY_FILE_VARIABLE) == str(self.key_file):
            environment = {name: text for name, text in environment.items() if name != KEY_FILE_VARIABLE}
        credentials = Credentials.chosen(environment=environment)
        if credentials.is_insecure:
            raise InvalidKeyError(f"`handoff up` always has a key: leave {INSECURE_VARIABLE} away")
        return credentials.cluster_key

    def made_key(self) -> ClusterKey:
        """The key that was made here, or a new one. Raises InvalidKeyError, too."""
        with self._errors(), self._locked("lock"):
            with suppress(FileExistsError):
                ClusterKey.generate().write_to(self.key_file)
            return ClusterKey.from_file(self.key_file)

    def drop_unused_key(self) -> None:
        """Remove the key that was made here, if no host is recorded."""
        self._change(lambda hosts: hosts)

    @asynccontextmanager
    async def founding(self) -> AsyncIterator[None]:
        """Keep other commands from starting the first node of a cluster meanwhile."""
        with self._errors():
            descriptor = self._open("founding.lock")
        try:
            while not _is_locked(descriptor):  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(_LOOKS_EVERY_S)
            yield
        finally:
            os.close(descriptor)

    def _change(self, changed: Callable[[dict[str, HostEntry]], dict[str, HostEntry]]) -> None:
        with self._errors(), self._locked("lock"):
            hosts = changed(self.hosts())
            if hosts:
                new = self._file.with_suffix(".new")
                new.write_bytes(msgspec.json.format(msgspec.json.encode(hosts)))
                new.replace(self._file)
            else:
                self._file.unlink(missing_ok=True)
                self.key_file.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        descriptor = self._open(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UpRecordError(
                f"the record of the machines that are up can't be kept in {self._directory}: {error.strerror}"
            ) from error


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
