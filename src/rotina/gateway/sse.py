"""Server-sent events (WHATWG HTML, section 9.2), as much as model servers use of them."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterable

from rotina.errors import ModelOutputError


async def read_events(
    blocks: AsyncIterable[bytes], limit: int, what: str = "The streamed answer"
) -> AsyncGenerator[str, None]:
    """The data of each event; bytes may be cut anywhere, also inside a character.

    Handles LF, CRLF and CR, a byte order mark, comments, events of several data lines, and an end
    without a blank line. An event that repeats id and data of the one before is left out.
    Raises `ModelOutputError` once a stream has sent more than `limit` bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    pending, event, ids, size = "", _Event(), _Ids(), 0
    async for block in blocks:
        size += len(block)
        if size > limit:
            raise ModelOutputError(f"{what} is larger than {limit:,} bytes: given up")
        lines, pending = _complete_lines(pending + decoder.decode(block))
        for line in lines:
            if line:
                event.add(line)
                continue
            if event.data and not ids.repeat(event):
                yield event.text
            event = _Event()
    lines, _ = _complete_lines(pending + decoder.decode(b"", final=True) + "\n")
    for line in lines:
        event.add(line)
    if event.data and not ids.repeat(event):
        yield event.text


def _complete_lines(text: str) -> tuple[list[str], str]:
    """The lines that surely ended, and the rest; a CR at the very end may belong to a CRLF."""
    held = "\r" if text.endswith("\r") else ""
    text = text.removesuffix("\r")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1], lines[-1] + held


class _Event:
    """One event while its lines come in."""

    def __init__(self) -> None:
        self.data: list[str] = []
        self.id = ""

    def add(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name == "data":
            self.data.append(value.removeprefix(" "))
        elif name == "id":
            self.id = value.strip()

    @property
    def text(self) -> str:
        return "\n".join(self.data)


class _Ids:
    """Tells an event that is sent twice from one that says the same again.

    Only an id can: two equal words in a row are two equal events. A server that gives all events
    one id says nothing by it.
    """

    def __init__(self) -> None:
        self._last = _Event()
        self._telling = True

    def repeat(self, event: _Event) -> bool:
        last, self._last = self._last, event
        if not event.id or event.id != last.id:
            return False
        if event.data != last.data:
            self._telling = False
        return self._telling
