"""What the gateway needs from a provider: one file each implements this."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from rotina.errors import ModelError
from rotina.gateway.answer import ChatChunk, ChatRequest, EmbeddingReply, Reply, RerankReply


class Provider(Protocol):
    """One deployment's wire protocol: a single try, no policy.

    Every method raises the `ModelError` that fits, or `RefusedError` around one when the server
    said how long to wait. It never checks whether an answer is usable: the gateway does.
    Cancelling a method closes the connection that it uses.
    """

    async def chat(self, request: ChatRequest) -> Reply:
        """One complete answer."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """The answer in pieces; ends after the piece with the finish reason and the usage."""

    async def embed(self, texts: Sequence[str]) -> EmbeddingReply:
        """One vector a text, in order."""

    @property
    def rerank_batch(self) -> int:
        """Documents that one request may have."""

    async def rerank(self, query: str, documents: Sequence[str]) -> RerankReply:
        """One score a document."""

    async def close(self) -> None:
        """Close what is open; the provider is not used again."""


class RefusedError(ModelError):
    """An error, and what the server said about trying again; never leaves the gateway."""

    def __init__(
        self, error: ModelError, *, retry_after: float | None = None, again: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after
        """Seconds to wait at least."""
        self.again = again
        """The provider has changed its request, so the next try may succeed."""


class SchemaRefusedError(ModelError):
    """A server that does not take a schema; never leaves the gateway."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(str(error))
        self.error = error
        """As it would be told to the caller."""
