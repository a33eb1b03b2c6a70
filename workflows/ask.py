"""ask: a question over collections of the knowledge base, answered with citations."""

from pydantic import BaseModel, Field

from rotina.graphs.answering import Answer, build_answering
from rotina.graphs.language import Language
from rotina.runs import Workflow


class AskInput(BaseModel):
    """What starts a run."""

    question: str = Field(min_length=1, max_length=2000)
    collections: list[str] = Field(min_length=1, max_length=10)
    language: Language | None = None
    """To answer in; None: the question's."""


class AskOutput(BaseModel):
    """What a run ends with."""

    answer: Answer


ASK = Workflow(
    name="ask",
    description="Answer a question from the knowledge base, each sentence with a citation.",
    input=AskInput,
    output=AskOutput,
    build=build_answering,
)
