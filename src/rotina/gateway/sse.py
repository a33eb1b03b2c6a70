"""Server-sent events (WHATWG HTML, section 9.2), as much as model servers use of them."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterable

from rotina.errors import ModelOutputError


async def read_events(blocks: AsyncIterable[bytes], limit: int) -> AsyncGenerator[str, None]:
    """The data of each event; bytes may be cut anywhere, also inside a character.

    Handles LF, CRLF and CR, a byte order mark, comments, events of several data lines, and an end
    without a blank line. Raises `ModelOutputError` once a stream has sent more than `limit` bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    pending, data, size = "", list[str](), 0
    async for block in blocks:
        size += len(block)
        if size > limit:
            raise ModelOutputError(f"the streamed answer is larger than {limit} bytes: given up")
        lines, pending = _complete_lines(pending + decoder.decode(block))
        for line in lines:
            if line:
                _collect(line, data)
            elif data:
                yield "\n".join(data)
                data.clear()
    lines, _ = _complete_lines(pending + decoder.decode(b"", final=True) + "\n")
    for line in lines:
        _collect(line, data)
    if data:
        yield "\n".join(data)


def _complete_lines(text: str) -> tuple[list[str], str]:
    """The lines that surely ended, and the rest; a CR at the very end may belong to a CRLF."""
    held = "\r" if text.endswith("\r") else ""
    text = text.removesuffix("\r")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1], lines[-1] + held


def _collect(line: str, data: list[str]) -> None:
    name, _, value = line.partition(":")
    if name == "data":
        data.append(value.removeprefix(" "))
