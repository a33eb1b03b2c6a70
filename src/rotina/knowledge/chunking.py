"""Cuts a document into chunks that are searched and cited: spans of its text, never copies of it.

A chunk ends at a heading, else where a paragraph, a list item or row, a sentence, a line or a word
ends, whichever the limits leave room for. It begins with the last sentences of the one before, so
that an answer that straddles a cut is whole in one of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rotina.errors import KnowledgeError
from rotina.gateway.room import Room
from rotina.knowledge.document import Document
from rotina.knowledge.headings import Section, sections
from rotina.knowledge.units import Break, Unit, pieces, units

LIMIT = 600
"""Characters of a chunk, overlap included."""
LEAST, MOST = 100, 20_000
"""Between which the limit may be chosen."""
OVERLAP = 50
"""Characters, at most, that a chunk shares with the one before."""
_CONTEXT_SHARE = 4
"""The context may take this part of what an embedding model reads at once."""
_SEPARATOR = " › "


@dataclass(frozen=True)
class Chunk:
    """`document.text[start:end] == text`."""

    start: int
    end: int
    text: str
    page: int | None
    """The page on which it begins; None where the format has none."""
    context: str
    """The document's title and the headings above the chunk, and below them the names of the
    columns if it begins inside a table; empty when there are none."""
    headings: tuple[str, ...] = ()
    """The headings above it, from the outermost in."""


def usual_overlap(limit: int) -> int:
    """What chunks of at most `limit` characters share. Raises `KnowledgeError` for such a limit."""
    if not LEAST <= limit <= MOST:
        raise KnowledgeError(f"Chunks cannot have {limit} characters: choose {LEAST} to {MOST}")
    return limit // 12


def chunk(
    document: Document, *, limit: int = LIMIT, overlap: int = OVERLAP, room: Room | None = None
) -> list[Chunk]:
    """The chunks of a document in order; none is blank.

    Each has at most `limit` characters and, with its context, fits `room`, what the embedding
    model reads at once. Only a single character, as readers see it, that is larger than all this
    is cut. Raises `ValueError` unless 0 <= overlap <= limit / 2.
    """
    if not 0 <= overlap <= limit // 2:
        raise ValueError(f"overlap is {overlap}: choose 0 to {limit // 2}, half of limit {limit}")
    title = document.metadata.get("title", "")
    found = []
    for section in sections(document):
        # Word processors title a document by its first heading.
        above = tuple(dict.fromkeys(part for part in (title, *section.path) if part))
        for start, end, context in _Packer(document.text, above, limit, overlap, room).pack(
            section
        ):
            text = document.text[start:end]
            page = document.page_of(start)
            found.append(Chunk(start, end, text, page, context, section.path))
    return found


@dataclass
class _Packer:
    """Fills the chunks of one section."""

    text: str
    above: tuple[str, ...]
    limit: int
    overlap: int
    room: Room | None

    def pack(self, section: Section) -> Iterator[tuple[int, int, str]]:
        """Spans of whole units with their contexts; each but the first begins up to `overlap`
        before its own first unit."""
        whole = list(self._pieces(section))
        first = 0
        while first < len(whole):
            start = self._back(whole, first)
            if not self._fits(whole[start], whole[first]):
                start = first
            last = self._last(whole, start, first)
            yield whole[start].start, whole[last].end, self._context(whole[start])
            first = last + 1

    def _pieces(self, section: Section) -> Iterator[Unit]:
        for unit in units(self.text, section.start, section.end):
            context = self._context(unit)
            yield from pieces(self.text, unit, self._measure(context), self.limit - self.overlap)

    def _last(self, whole: list[Unit], start: int, first: int) -> int:
        """The unit to end a chunk with: the best break in its second half, else all that fits."""
        last = first
        while last + 1 < len(whole) and whole[last + 1].end - whole[start].start <= self.limit:
            last += 1
        while last > first and not self._fits(whole[start], whole[last]):
            last -= 1
        if last + 1 == len(whole):
            return last
        earliest = whole[start].start + (whole[last].end - whole[start].start) // 2
        best = last
        for index in range(last, first - 1, -1):
            if whole[index].end < earliest or whole[best].after == Break.PARAGRAPH:
                break
            if whole[index].after > whole[best].after:
                best = index
        return best

    def _back(self, whole: list[Unit], first: int) -> int:
        """The unit that a chunk whose own units begin with `first` starts with."""
        if whole[first].is_row:
            return first  # a row says all by itself, under the names of its columns
        farthest, sentence = first, None
        for index in range(first - 1, -1, -1):
            if whole[first].start - whole[index].start > self.overlap:
                break
            farthest = index
            if index == 0 or whole[index - 1].after >= Break.SENTENCE:
                sentence = index
        return farthest if sentence is None else sentence

    def _fits(self, first: Unit, last: Unit) -> bool:
        return self._measure(self._context(first))(first.start, last.end)

    def _measure(self, context: str) -> Callable[[int, int], bool]:
        room = self.room
        if room is None:
            return lambda start, end: end - start <= self.limit
        return lambda start, end: room.holds(with_context(context, self.text[start:end]))

    def _context(self, unit: Unit) -> str:
        """What stands above a chunk that begins with this unit, as far as there is room for it."""
        parts = [*self.above]
        lines = [unit.header] if unit.header else []
        while True:
            context = "\n".join([_SEPARATOR.join(parts), *lines] if parts else lines)
            if not context or self._has_room(context):
                return context
            # The nearest heading says most about the chunk.
            if parts:
                parts.pop(0)
            else:
                lines.clear()

    def _has_room(self, context: str) -> bool:
        return self.room is None or self.room.holds(context, share=_CONTEXT_SHARE)


def with_context(context: str, text: str) -> str:
    """What is embedded and searched for a chunk: its text under what stands above it."""
    return f"{context}\n{text}" if context else text
