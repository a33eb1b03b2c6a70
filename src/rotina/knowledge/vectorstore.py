"""A collection as a LangChain vector store.

The gateway must be open, and the knowledge base's pool belongs to its event loop. Asynchronous
methods work on any loop; synchronous ones wait for the gateway's, so call them from any thread but
that loop's own.
"""

import hashlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Self, TypeVar
from uuid import uuid4

from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from rotina.errors import KnowledgeError
from rotina.gateway.langchain import RotinaEmbeddings, hand_over, run_on
from rotina.knowledge.base import KnowledgeBase
from rotina.knowledge.document import Document
from rotina.knowledge.model import Passage, Weights
from rotina.knowledge.preparing import About, prepare
from rotina.knowledge.refining import Refinement

T = TypeVar("T")

BATCH = 1000
"""Texts that are stored in one transaction."""
VECTORS = Weights(text=0.0, vectors=1.0)


class RotinaVectorStore(VectorStore):
    """Texts in one collection, each a document of one chunk, found by likeness.

    With the default `weights` a score is the cosine; others make it the hybrid search of
    `KnowledgeBase.search`. A text's id is the document's URI.
    """

    def __init__(
        self,
        knowledge: KnowledgeBase,
        collection: str,
        *,
        embedding: Embeddings | None = None,
        weights: Weights = VECTORS,
    ) -> None:
        """Without `embedding` the collection's own route embeds texts and questions."""
        self._knowledge = knowledge
        self._collection = collection
        self._embedding = embedding
        self._weights = weights

    @property
    def embeddings(self) -> Embeddings:
        """What embeds: the given one, or the gateway."""
        return self._embedding or RotinaEmbeddings(self._knowledge.gateway)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts in the place of those with the same ids; returns the ids.

        Raises `KnowledgeError` when there are not as many ids or metadatas as texts.
        """
        _refuse(kwargs)
        given, vectors = list(texts), None
        if self._embedding is not None:
            vectors = await self._embedding.aembed_documents(given)
        return await self._over(self._add(given, metadatas, ids, vectors))

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """As `aadd_texts`, waiting."""
        _refuse(kwargs)
        given, vectors = list(texts), None
        if self._embedding is not None:
            vectors = self._embedding.embed_documents(given)
        return run_on(self._knowledge.gateway, self._add(given, metadatas, ids, vectors))

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete the texts with these ids, or all; ids that are not there are left alone."""
        _refuse(kwargs)
        await self._over(self._knowledge.discard(self._collection, ids))
        return True

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """As `adelete`, waiting."""
        _refuse(kwargs)
        run_on(self._knowledge.gateway, self._knowledge.discard(self._collection, ids))
        return True

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """The texts with these ids, without those that are not there."""
        return await self._over(self._get(ids))

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """As `aget_by_ids`, waiting."""
        return run_on(self._knowledge.gateway, self._get(ids))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        """The `k` most alike with their scores, higher is better.

        `filter`, `weights`, `access` and `as_of` are those of `KnowledgeBase.search`.
        """
        vector = None
        if self._embedding is not None:
            vector = await self._embedding.aembed_query(query)
        return _scored(await self._over(self._search(query, k, vector, **kwargs)))

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        """As `asimilarity_search_with_score`, waiting."""
        vector = None if self._embedding is None else self._embedding.embed_query(query)
        return _scored(run_on(self._knowledge.gateway, self._search(query, k, vector, **kwargs)))

    async def asimilarity_search(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[LangChainDocument]:
        """The `k` most alike; see `asimilarity_search_with_score`."""
        return [each for each, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[LangChainDocument]:
        """As `asimilarity_search`, waiting."""
        return [each for each, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[LangChainDocument]:
        """The `k` most like a vector."""
        found = await self._over(self._search("", k, embedding, **kwargs))
        return [_document(each) for each in found]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[LangChainDocument]:
        """As `asimilarity_search_by_vector`, waiting."""
        searching = self._search("", k, embedding, **kwargs)
        return [_document(each) for each in run_on(self._knowledge.gateway, searching)]

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        """The `k` that are alike the query and unlike one another; 4·k are looked at."""
        del fetch_k
        refinement = Refinement(diversity=1 - lambda_mult)
        return await self.asimilarity_search(query, k, refinement=refinement, **kwargs)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        """As `amax_marginal_relevance_search`, waiting."""
        del fetch_k
        refinement = Refinement(diversity=1 - lambda_mult)
        return self.similarity_search(query, k, refinement=refinement, **kwargs)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store over `knowledge` and `collection`, which is made if it is not there, filled."""
        store = cls(embedding=embedding, **kwargs)
        creating = store._knowledge.create(store._collection, if_missing=True)
        run_on(store._knowledge.gateway, creating)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """As `from_texts`, without waiting."""
        store = cls(embedding=embedding, **kwargs)
        await store._over(store._knowledge.create(store._collection, if_missing=True))
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(1.0, max(0.0, score))

    async def _over(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await hand_over(self._knowledge.gateway, coroutine)

    async def _add(
        self,
        texts: list[str],
        metadatas: list[dict[str, Any]] | None,
        ids: Sequence[str | None] | None,
        vectors: list[list[float]] | None,
    ) -> list[str]:
        named = [name or str(uuid4()) for name in ids or [None] * len(texts)]
        about = metadatas or [{} for _ in texts]
        if not len(named) == len(about) == len(texts):
            raise KnowledgeError(
                f"There are {len(texts)} texts, {len(named)} ids and {len(about)} metadatas: give "
                "one of each a text"
            )
        collection = await self._knowledge.get(self._collection)
        # Of texts with the same id the last one counts.
        last = list({name: place for place, name in enumerate(named)}.values())
        for first in range(0, len(last), BATCH):
            places = last[first : first + BATCH]
            batch = [
                prepare(
                    _text(named[place], texts[place]),
                    collection,
                    About(uri=named[place], metadata=about[place]),
                    whole=True,
                )
                for place in places
            ]
            given = None if vectors is None else [vectors[place] for place in places]
            model = type(self._embedding).__name__
            await self._knowledge.put(collection, batch, given, model=model)
        await self._knowledge.index(collection)
        return named

    async def _get(self, ids: Sequence[str]) -> list[LangChainDocument]:
        found = await self._knowledge.texts(self._collection, ids)
        return [
            LangChainDocument(id=name, page_content=found[name][0], metadata=found[name][1])
            for name in ids
            if name in found
        ]

    async def _search(
        self, query: str, k: int, vector: Sequence[float] | None, **kwargs: Any
    ) -> list[Passage]:
        weights = kwargs.pop("weights", self._weights)
        return await self._knowledge.search(
            self._collection, query, k=k, vector=vector, weights=weights, **kwargs
        )


def _refuse(unknown: dict[str, Any]) -> None:
    if unknown:
        raise KnowledgeError(f"{min(unknown)!r} is no parameter of a vector store")


def _text(name: str, text: str) -> Document:
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Document(name=name, media_type="text/plain", sha256=sha256, text=text)


def _document(passage: Passage) -> LangChainDocument:
    return LangChainDocument(id=passage.uri, page_content=passage.text, metadata=passage.metadata)


def _scored(found: list[Passage]) -> list[tuple[LangChainDocument, float]]:
    return [(_document(each), each.score) for each in found]
