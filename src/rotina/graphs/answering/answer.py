"""What comes back: sentences, each with the characters of a document that prove it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rotina.graphs.language import Language
from rotina.knowledge.model import Citation

Status = Literal["answered", "unknown"]

UNKNOWN: dict[Language, str] = {
    "en": "I don't know: I did not find an answer to that in our documents.",
    "pt": "Não sei: não encontrei uma resposta para isso nos nossos documentos.",
}
"""What is said when nothing is proven."""


class Sentence(BaseModel):
    """One sentence of an answer and what proves it."""

    model_config = ConfigDict(frozen=True)

    text: str
    citations: list[Citation]
    translated: bool = False
    """Whether the proof is in the other language: then its words could not be compared."""


class Answer(BaseModel):
    """An answer of which every sentence shown has a proof that code checked."""

    status: Status
    text: str
    """The sentences, or the fixed sentence that says it is not known."""
    sentences: list[Sentence] = Field(default_factory=list)
    dropped: list[str] = Field(default_factory=list)
    """Sentences of the model without a valid proof, or that answer something else. They must not
    be shown to a customer."""
    language: Language

    @classmethod
    def unknown(cls, language: Language, dropped: list[str] | None = None) -> "Answer":
        """The answer that says it does not know."""
        return cls(
            status="unknown", text=UNKNOWN[language], dropped=dropped or [], language=language
        )

    @property
    def citations(self) -> list[Citation]:
        """The citations of all sentences, in order."""
        return [citation for sentence in self.sentences for citation in sentence.citations]
