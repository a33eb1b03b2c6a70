"""Files below a folder."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

from rotina.errors import SourceError
from rotina.knowledge.sources.model import Fetched, FolderSettings, Listed, Source

PAGE = 500
"""Files that are looked at before others get a turn."""


class Folder(Source):
    """Size and time of change tell a file's content; links that lead out of the folder do not."""

    def __init__(self, settings: FolderSettings, most_bytes: int) -> None:
        """`most_bytes` is the size of the largest file that is read."""
        self._root = Path(settings.path)
        self._pattern = settings.pattern
        self._most = most_bytes

    async def listed(self) -> AsyncIterator[Listed]:
        """Files in the folder's own order. Raises `SourceError` when it cannot be read."""
        if not await asyncio.to_thread(self._root.is_dir):
            raise SourceError(
                f"{str(self._root)!r} is no folder that this worker can read: mount it, or let the "
                "collection follow another"
            )
        found = self._files()
        while page := await asyncio.to_thread(_page, found):
            for each in page:
                yield each

    async def fetch(self, uri: str) -> Fetched:
        """A file's bytes."""
        path = Path(uri)
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
            if size > self._most:
                raise SourceError(f"{uri!r} has {size} bytes, and {self._most} are allowed")
            return Fetched(path.name, await asyncio.to_thread(path.read_bytes))
        except OSError as error:
            raise SourceError(f"{uri!r} cannot be read: {error.strerror or error}") from None

    def _files(self) -> Iterator[Listed]:
        root = self._root.resolve()
        for path in self._root.glob(self._pattern):
            hidden = any(part.startswith(".") for part in path.relative_to(self._root).parts)
            if hidden or not path.is_file() or not path.resolve().is_relative_to(root):
                continue
            facts = path.stat()
            uri = str(path).encode("utf-8", "replace").decode()
            yield Listed(uri, f"{facts.st_size}:{facts.st_mtime_ns}")


def _page(files: Iterator[Listed]) -> list[Listed]:
    return list(islice(files, PAGE))
