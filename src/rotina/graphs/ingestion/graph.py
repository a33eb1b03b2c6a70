"""The ingestion state machine: load → chunk → embed (a task a batch) → store → index.

Content that is in the collection already goes from `chunk` to `store`, which only takes over its
metadata; of changed content only the changed chunks are embedded. When the collection was embedded
anew meanwhile, `store` goes back to `chunk`.
"""

from typing import Any

from langgraph.graph import END, START, StateGraph

from rotina.graphs.context import Context
from rotina.graphs.ingestion.ingestion import Ingestion
from rotina.graphs.ingestion.nodes import Nodes
from rotina.graphs.ingestion.state import IngestionState


def build_ingestion(
    ingestion: Ingestion | None = None,
) -> StateGraph[IngestionState, Context, Any, Any]:
    """The graph that puts one file into a collection."""
    nodes = Nodes(ingestion or Ingestion())
    graph = StateGraph(IngestionState, context_schema=Context)
    graph.add_node("load", nodes.load)
    graph.add_node("chunk", nodes.chunk, destinations=("embed", "store"))
    graph.add_node("embed", nodes.embed)
    graph.add_node("store", nodes.store, destinations=("chunk", "index"))
    graph.add_node("index", nodes.index)
    graph.add_edge(START, "load")
    graph.add_edge("load", "chunk")
    graph.add_edge("embed", "store")
    graph.add_edge("index", END)
    return graph
