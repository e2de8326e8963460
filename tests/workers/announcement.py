"""A named pipe through which a function under test tells the test how far it is."""

import asyncio
import os
from pathlib import Path


class Announcement:
    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._loop = asyncio.get_running_loop()
        # Open for writing too: then a writer that leaves is not the end.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._made = asyncio.Event()
        self._loop.add_reader(self._descriptor, self._made.set)

    async def text(self) -> str:
        """Wait for it; it is short enough to arrive in one piece."""
        async with asyncio.timeout(20):
            await self._made.wait()
        self._loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, 4096).decode()

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
