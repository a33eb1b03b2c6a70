"""The text that a job works on: given as such, or as a document that is read first."""

import unicodedata
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from rotina.errors import InvalidInputError
from rotina.graphs.context import Context
from rotina.runs import FileReference

MOST_CHARACTERS = 1_000_000


class TextInput(BaseModel):
    """Input of a workflow that takes a text or a document: exactly one of the two."""

    text: str | None = Field(default=None, max_length=MOST_CHARACTERS)
    document: FileReference | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.document is None):
            raise ValueError("give either `text` or `document`")
        if self.text is not None and not self.text.strip():
            raise ValueError("`text` is empty: there is nothing to work on")
        return self


async def source_text(state: Mapping[str, Any], context: Context) -> str:
    """The text of the state's `text` or `document`, in Unicode's composed form (NFC).

    Raises `InvalidInputError` when there is nothing but white space, and `DocumentError`.
    """
    if state.get("document") is None:
        text = unicodedata.normalize("NFC", state.get("text") or "")
        if not text.strip():
            raise InvalidInputError("The text is empty: there is nothing to work on.")
        return text
    reference = FileReference.model_validate(state["document"])
    document = await context.load(reference)
    return unicodedata.normalize("NFC", document.text)
