"""State of the extraction graph: JSON only, so that every checkpoint is plain data."""

import operator
from typing import Annotated, Any, NotRequired, TypedDict

from rotina.graphs.splitting import Piece


class Answer(TypedDict):
    """What a model said about one piece, in the wire schema."""

    index: int
    data: dict[str, Any]


class PieceState(TypedDict):
    """What one `extract` task gets."""

    piece: Piece
    text: str
    schema: NotRequired[dict[str, Any]]


class ExtractionState(TypedDict, total=False):
    """Input: `document` as a file reference. Output: `extraction`, an `ExtractionResult`."""

    document: dict[str, Any]
    schema: dict[str, Any]
    """What to extract, where the graph was built without an `Extraction` of its own."""
    loaded: dict[str, Any]
    pieces: list[Piece]
    answers: Annotated[list[Answer], operator.add]
    extraction: dict[str, Any]
