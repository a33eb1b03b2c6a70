"""Nodes of classification: `cheap`, and `model` where it is needed."""

from typing import Literal

from langgraph.runtime import Runtime

from rotina.graphs.classification.classification import Classification
from rotina.graphs.classification.state import ClassificationState
from rotina.graphs.classification.steps import Evidence, ask, gather, settle
from rotina.graphs.context import Context


class Nodes:
    """The nodes of one classification graph."""

    def __init__(self, declaration: Classification) -> None:
        self._declaration = declaration

    async def cheap(
        self, state: ClassificationState, runtime: Runtime[Context]
    ) -> ClassificationState:
        """What can be said without a chat model; a clear answer ends here."""
        text = state["text"]
        gateway = runtime.context.at("cheap")
        evidence = await gather(text, self._declaration, gateway)
        settled = settle(text, self._declaration, evidence)
        return {
            "evidence": evidence.model_dump(mode="json") if evidence and not settled else None,
            "classification": settled.model_dump(mode="json") if settled else None,
        }

    def route(self, state: ClassificationState) -> Literal["model", "__end__"]:
        """On to the model where the cheap path did not settle it."""
        return "__end__" if state.get("classification") else "model"

    async def model(
        self, state: ClassificationState, runtime: Runtime[Context]
    ) -> ClassificationState:
        """Ask the chat model. Raises a `ModelError`."""
        given = state.get("evidence")
        evidence = Evidence.model_validate(given) if given else None
        gateway = runtime.context.at("model")
        result = await ask(state["text"], self._declaration, evidence, gateway)
        return {"classification": result.model_dump(mode="json"), "evidence": None}
