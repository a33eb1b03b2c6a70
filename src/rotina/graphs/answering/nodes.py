"""Nodes of answering: retrieve, answer."""

from langgraph.runtime import Runtime

from rotina.errors import KnowledgeError
from rotina.graphs.answering.answering import Answering
from rotina.graphs.answering.asking import answer
from rotina.graphs.answering.retrieving import retrieve
from rotina.graphs.answering.state import AnsweringState
from rotina.graphs.context import Context
from rotina.knowledge import Passage


class Nodes:
    """The nodes of one answering graph."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def retrieve(self, state: AnsweringState, runtime: Runtime[Context]) -> AnsweringState:
        """The passages that may answer. Raises `CollectionNotFoundError`."""
        spec = self._answering
        collections = spec.collections or tuple(state.get("collections") or ())
        if not collections:
            raise KnowledgeError(
                "No collection to search: name one in the input's `collections` or in `Answering`."
            )
        passages = await retrieve(
            runtime.context.knowledge, state["question"], collections, k=spec.k, floor=spec.floor
        )
        return {"passages": [passage.model_dump(mode="json") for passage in passages]}

    async def answer_question(
        self, state: AnsweringState, runtime: Runtime[Context]
    ) -> AnsweringState:
        """The checked answer, or the one that says it is not known."""
        spec = self._answering
        answered = await answer(
            state["question"],
            [Passage.model_validate(passage) for passage in state["passages"]],
            runtime.context.at("answer_question"),
            language=state.get("language"),
            route=spec.route,
            persona=spec.persona,
            judged=spec.judged,
        )
        return {"answer": answered.model_dump(mode="json")}
