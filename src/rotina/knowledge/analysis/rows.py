"""Rows to analyse: from a collection of the knowledge base, or from a file of texts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rotina.errors import InvalidInputError, KnowledgeError
from rotina.gateway import Gateway
from rotina.knowledge.analysis.matrix import (
    MAX_ROWS,
    Matrix,
    check_size,
    same_dimensions,
    unit_rows,
)

if TYPE_CHECKING:
    from rotina.knowledge.base import KnowledgeBase
    from rotina.knowledge.model import Vectors

By = Literal["document", "chunk"]

EMBED_TEXTS = 1024
"""Texts whose vectors are held as Python numbers, which take eight times as much, at a time."""


class TextRow(BaseModel):
    """One line of a file of texts; other fields are left alone."""

    model_config = ConfigDict(frozen=True)

    text: str = Field(min_length=1, pattern=r"\S")
    label: str | None = None
    id: str | None = None
    """The line's number when not given."""


@dataclass(frozen=True)
class Rows:
    """Embedded texts: everything in the same order."""

    ids: list[str]
    """A document's name, a chunk's id, or what the file says."""
    texts: list[str]
    labels: list[str | None]
    matrix: Matrix
    """(n, d)."""

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, name: str) -> int:
        """The row with that id, or the only one whose id begins so.

        Raises `KnowledgeError` when there is none, or more than one.
        """
        found = [row for row, known in enumerate(self.ids) if known == name]
        found = found or [row for row, known in enumerate(self.ids) if known.startswith(name)]
        if len(found) != 1:
            many = f"{len(found)} rows have the id {name!r}" if found else f"No row is {name!r}"
            some = ", ".join(self.ids[:3])
            raise KnowledgeError(f"{many}: give an id that one row has, such as {some}")
        return found[0]

    def take(self, rows: Sequence[int]) -> "Rows":
        """Only those rows, in that order."""
        return Rows(
            [self.ids[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.labels[row] for row in rows],
            self.matrix[list(rows)],
        )


async def collection_rows(
    knowledge: "KnowledgeBase",
    collection: str,
    *,
    filter: Mapping[str, Any] | None = None,  # noqa: A002 - the knowledge base's word
    by: By = "document",
    label: str | None = None,
) -> Rows:
    """The collection's documents, or its chunks, with the label in the metadata field `label`.

    A document's vector is the mean of its chunks' vectors.

    Raises `CollectionNotFoundError`, `FilterError`, and `KnowledgeError` for more rows than an
    analysis takes, for no rows at all, and for a label that is neither text, number nor boolean.
    """
    if not filter:
        stats = await knowledge.stats(collection)
        check_size(stats.chunks, stats.collection.dimension or 1, what=repr(collection))
    vectors = await knowledge.vectors(collection, filter=filter)
    if not vectors.ids:
        raise KnowledgeError(
            f"The collection {collection!r} has no documents{' behind the filter' * bool(filter)}: "
            f"add some with `rotina kb add`"
        )
    chunks = Rows(
        [str(chunk) for chunk in vectors.ids],
        vectors.texts,
        [_label(metadata, label) for metadata in vectors.metadata],
        vectors.matrix,
    )
    match by:
        case "chunk":
            return chunks
        case "document":
            return _documents(chunks, vectors)
        case _:
            assert_never(by)


async def file_rows(path: Path, gateway: Gateway, *, route: str = "embed") -> Rows:
    """The texts of a JSON Lines file (`text`, and perhaps `label` and `id`), embedded.

    Raises `InvalidInputError` for a file that cannot be read or a line that is no such row,
    `KnowledgeError` for too many rows, and a `ModelError` when embedding fails.
    """
    lines = list(_read(path))
    if not lines:
        raise InvalidInputError(f'{path} has no rows: write one JSON object a line, {{"text": …}}')
    return await embed_rows(lines, gateway, route=route)


async def embed_rows(rows: Sequence[TextRow], gateway: Gateway, *, route: str = "embed") -> Rows:
    """The rows' texts embedded by the gateway. Raises a `ModelError` when that fails."""
    parts: list[Matrix] = []
    for start in range(0, len(rows), EMBED_TEXTS):
        texts = [row.text for row in rows[start : start + EMBED_TEXTS]]
        embedded = await gateway.embed(texts, route=route)
        parts.append(np.asarray(embedded.vectors, dtype=np.float32))
        check_size(len(rows), parts[0].shape[1], what="the file")
    return Rows(
        [row.id or str(number) for number, row in enumerate(rows, start=1)],
        [row.text for row in rows],
        [row.label for row in rows],
        np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32),
    )


def join_rows(first: Rows, second: Rows) -> Rows:
    """The rows of both, in that order. Raises `KnowledgeError` for other dimensions."""
    if not len(first) or not len(second):
        return first if len(first) else second
    same_dimensions(first.matrix, second.matrix, ("the rows", "the texts"))
    return Rows(
        first.ids + second.ids,
        first.texts + second.texts,
        first.labels + second.labels,
        np.concatenate([first.matrix, second.matrix]),
    )


def _read(path: Path) -> Iterator[TextRow]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    if number > MAX_ROWS:
                        raise KnowledgeError(f"{path} has more than {MAX_ROWS} rows: take a sample")
                    yield _row(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read as UTF-8 text: {error}") from None


def _row(line: str, place: str) -> TextRow:
    try:
        return TextRow.model_validate(json.loads(line))
    except ValidationError as error:
        wrong = error.errors()[0]
        field = ".".join(map(str, wrong["loc"])) or "it"
        raise InvalidInputError(
            f'{place}: {field}: {wrong["msg"]}; write {{"text": …, "label": …, "id": …}} with '
            f"texts that are not empty"
        ) from None
    except ValueError as error:
        raise InvalidInputError(f"{place} is not JSON: {error}") from None


def _label(metadata: Mapping[str, Any], field: str | None) -> str | None:
    value = None if field is None else metadata.get(field)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    raise KnowledgeError(
        f"The metadata field {field!r} holds {type(value).__name__} {str(value)[:40]!r}, which is "
        f"no label: name a field with texts, numbers or booleans"
    )


def _documents(chunks: Rows, vectors: "Vectors") -> Rows:
    """One row a document: the mean direction of its chunks."""
    unit = unit_rows(chunks.matrix, least=1, what="the collection")
    places: dict[tuple[str, str], list[int]] = {}
    for row, (name, metadata) in enumerate(zip(vectors.documents, vectors.metadata, strict=True)):
        # Files in different folders may have one name; what they are about then differs.
        places.setdefault((name, json.dumps(metadata, sort_keys=True)), []).append(row)
    groups = list(places.values())
    return Rows(
        [vectors.documents[rows[0]] for rows in groups],
        ["\n".join(chunks.texts[row] for row in rows) for rows in groups],
        [chunks.labels[rows[0]] for rows in groups],
        np.stack([unit[rows].mean(axis=0) for rows in groups]),
    )
