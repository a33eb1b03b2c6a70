"""The shared gateway to every model: routes, limits, retries, checks and records each call.

The LangChain faces are in `rotina.gateway.langchain`, which this package does not import.
"""

from rotina.gateway.answer import (
    ChatAnswer,
    ChatChunk,
    Embeddings,
    Message,
    RankedDocument,
    Reranking,
    Usage,
)
from rotina.gateway.budget import BudgetStore, Claim, Spent
from rotina.gateway.cache import AnswerCache, PostgresCache
from rotina.gateway.gateway import Gateway
from rotina.gateway.guards import Guard, redact
from rotina.gateway.ledger import CallLedger, Content, MemoryLedger, ModelCall
from rotina.gateway.observer import CallUnderWay, DeploymentState, Observer, Times
from rotina.gateway.postgres_ledger import PostgresLedger, purge_content
from rotina.gateway.prompts import PromptReference, Prompts, Rendered
from rotina.gateway.retry import RetryPolicy
from rotina.gateway.shared import Shared
from rotina.gateway.tokens import TokenCount, count_tokens
from rotina.gateway.vector_cache import KeptVector, PostgresVectorCache, VectorCache

__all__ = [
    "AnswerCache",
    "BudgetStore",
    "CallLedger",
    "CallUnderWay",
    "ChatAnswer",
    "ChatChunk",
    "Claim",
    "Content",
    "DeploymentState",
    "Embeddings",
    "Gateway",
    "Guard",
    "KeptVector",
    "MemoryLedger",
    "Message",
    "ModelCall",
    "Observer",
    "PostgresCache",
    "PostgresLedger",
    "PostgresVectorCache",
    "PromptReference",
    "Prompts",
    "RankedDocument",
    "Rendered",
    "Reranking",
    "RetryPolicy",
    "Shared",
    "Spent",
    "Times",
    "TokenCount",
    "Usage",
    "VectorCache",
    "count_tokens",
    "purge_content",
    "redact",
]
