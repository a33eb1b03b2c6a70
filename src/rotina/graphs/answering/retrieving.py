"""The passages of several collections for one question, best first."""

from collections.abc import Iterable

from rotina.knowledge import KnowledgeBase, Passage


async def retrieve(
    knowledge: KnowledgeBase,
    question: str,
    collections: Iterable[str],
    *,
    k: int = 4,
    floor: float | None = None,
) -> list[Passage]:
    """At most `k` passages of all `collections` together, none with a score below `floor`.

    Raises `CollectionNotFoundError`, and a `ModelError` when the question cannot be embedded.
    """
    found: list[Passage] = []
    for collection in collections:
        found += await knowledge.search(collection, question, k=k)
    kept = [passage for passage in found if floor is None or passage.score >= floor]
    return sorted(kept, key=lambda passage: -passage.score)[:k]
