"""The names that a host knows: those of a file, or of a name server that never answers."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.hosts.network import Host

SILENT = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("listening", flush=True)
while True:
    server.recv(512)
"""


@contextmanager
def silent_name_server(host: Host) -> Iterator[None]:
    """Have the host ask a name server that never answers."""
    with _etc(host) as etc:
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        command = [*host.prefix, sys.executable, "-c", SILENT]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            yield
            server.kill()


@contextmanager
def names_on(host: Host, names: Mapping[str, str]) -> Iterator[Path]:
    """Have the host know these names with their addresses. Yields its file for them, which may be written to."""
    with _etc(host) as etc:
        path = etc / "hosts"
        path.write_text("".join(f"{address} {name}\n" for name, address in names.items()))
        yield path


@contextmanager
def _etc(host: Host) -> Iterator[Path]:
    """The directory whose files `ip netns exec` shows in the host's /etc."""
    etc = Path("/etc/netns") / host.namespace
    etc.mkdir(parents=True)
    try:
        yield etc
    finally:
        shutil.rmtree(etc)
