"""A document on its way into a collection: chunked, hashed, and found to be storable."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rotina.errors import EmptyDocumentError, KnowledgeError
from rotina.gateway.room import Room
from rotina.knowledge.chunking import Chunk, chunk, with_context
from rotina.knowledge.document import Document
from rotina.knowledge.model import Collection, Language
from rotina.knowledge.words import fold, guess_language

CHUNKING = "2"
"""Changes when the same text would be cut, folded or embedded in another way."""


@dataclass(frozen=True)
class About:
    """What is said of a document, beside its content."""

    uri: str | None = None
    """What it replaces; its name unless given."""
    metadata: Mapping[str, Any] | None = None
    language: Language | None = None
    """The collection's, else a guess."""
    access: Sequence[str] = ()
    """Who may see it: who has one of these labels; everybody when empty."""
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    """The first moment when it no longer holds. Both with a time zone."""
    from_source: bool = False
    """Whether a source brings it: then it goes when no source lists it any more."""


@dataclass(frozen=True)
class Prepared:
    """A document on its way into a collection."""

    document: Document
    uri: str
    metadata: Mapping[str, Any]
    language: Language
    access: list[str]
    valid_from: datetime | None
    valid_to: datetime | None
    from_source: bool
    content_hash: str
    chunks: list[Chunk]

    @property
    def inputs(self) -> list[str]:
        """What is embedded for each chunk: it, under the headings above it."""
        return [with_context(each.context, each.text) for each in self.chunks]


def prepare(
    document: Document,
    collection: Collection,
    about: About | None = None,
    *,
    room: Room | None = None,
    whole: bool = False,
) -> Prepared:
    """Chunk a document; takes a second for some megabytes, so keep it off an event loop.

    `room` is what the embedding models read of one text (`KnowledgeBase.room`); without it chunks
    have the length of the collection's. `whole` makes one chunk of the text, whatever its length.
    Raises `EmptyDocumentError` for a text without words and `KnowledgeError` for what PostgreSQL
    cannot store.
    """
    about = about or About()
    if not whole and not fold(document.text):
        raise EmptyDocumentError(f"{document.name!r} has no words: there is nothing to search for")
    language = collection.language or about.language or guess_language(document.text)
    prepared = Prepared(
        document=document,
        uri=about.uri or document.name,
        metadata=dict(about.metadata or {}),
        language=language,
        access=sorted(set(about.access)),
        valid_from=about.valid_from,
        valid_to=about.valid_to,
        from_source=about.from_source,
        content_hash=_content_hash(document, language, None if whole else room, whole=whole),
        chunks=[_whole(document)] if whole else _cut(document, collection, room),
    )
    _check_times(prepared)
    _check_storable(prepared)
    return prepared


def _cut(document: Document, collection: Collection, room: Room | None) -> list[Chunk]:
    limit, overlap = collection.chunk_limit, collection.chunk_overlap
    return chunk(document, limit=limit, overlap=overlap, room=room)


def _whole(document: Document) -> Chunk:
    title = document.metadata.get("title", "")
    return Chunk(0, len(document.text), document.text, document.page_of(0), title)


def _content_hash(document: Document, language: Language, room: Room | None, *, whole: bool) -> str:
    parts = [*document.pages, *document.headings]
    pages = [part.model_dump() for part in parts]
    tokens = None if room is None else room.tokens
    title = document.metadata.get("title")
    facts = [CHUNKING, whole, tokens, language, document.name, title, document.text, pages]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_times(prepared: Prepared) -> None:
    first, last = prepared.valid_from, prepared.valid_to
    for moment in (first, last):
        if moment is not None and moment.tzinfo is None:
            raise KnowledgeError(
                f"{prepared.uri!r} is valid from or to {moment}, which has no time zone: add one"
            )
    if first is not None and last is not None and first >= last:
        raise KnowledgeError(
            f"{prepared.uri!r} is valid from {first} to {last}, which is never: the second is the "
            "first moment when it no longer holds"
        )


def _check_storable(prepared: Prepared) -> None:
    """PostgreSQL has neither NUL nor lone surrogates, and JSON has no NaN."""
    try:
        told = json.dumps(dict(prepared.metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise KnowledgeError(
            f"The metadata of {prepared.uri!r} is no JSON ({error}): use texts, numbers, lists"
        ) from None
    if not all(isinstance(label, str) and label for label in prepared.access):
        raise KnowledgeError(f"The access labels of {prepared.uri!r} have to be texts, none empty")
    texts = [prepared.document.text, prepared.uri, *prepared.access]
    if not _is_storable(told) or not all(map(_is_text, texts)):
        raise KnowledgeError(
            f"{prepared.uri!r} or its metadata holds NUL characters or lone surrogates, which "
            "PostgreSQL cannot store: take them out"
        )


def is_storable(value: Any) -> bool:
    """Whether it is JSON that PostgreSQL takes: no NaN, no NUL, no lone surrogates."""
    try:
        told = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return _is_storable(told)


def _is_storable(told: str) -> bool:
    """Whether JSON holds only characters that PostgreSQL has; it is written in ASCII."""
    if "\\u0000" not in told and "\\ud" not in told:
        return True
    return all(map(_is_text, _texts(json.loads(told))))


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from _texts(part)


def _is_text(text: str) -> bool:
    """Whether PostgreSQL has all its characters."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
