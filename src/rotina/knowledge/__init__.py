"""The pgvector knowledge base: collections, documents, chunks with spans, hybrid search.

Loading a document is in `rotina.knowledge.loading`; the LangChain face is in
`rotina.knowledge.retriever`, which this package does not import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rotina.knowledge.base import KnowledgeBase
    from rotina.knowledge.chunking import Chunk, chunk
    from rotina.knowledge.document import Document, Heading, Page
    from rotina.knowledge.model import (
        Added,
        Citation,
        CitingRun,
        Collection,
        CollectionStats,
        Passage,
        Space,
        StoredDocument,
        Vectors,
        Weights,
    )
    from rotina.knowledge.preparing import About
    from rotina.knowledge.refining import Refinement

__all__ = [
    "About",
    "Added",
    "Chunk",
    "Citation",
    "CitingRun",
    "Collection",
    "CollectionStats",
    "Document",
    "Heading",
    "KnowledgeBase",
    "Page",
    "Passage",
    "Refinement",
    "Space",
    "StoredDocument",
    "Vectors",
    "Weights",
    "chunk",
]

_MODULES = {
    "About": "preparing",
    "Refinement": "refining",
    "Chunk": "chunking",
    "Document": "document",
    "Heading": "document",
    "KnowledgeBase": "base",
    "Page": "document",
    "chunk": "chunking",
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: the process that reads one document needs none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'model')}")
    return getattr(module, name)
