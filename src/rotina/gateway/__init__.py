"""The shared gateway to every model: routes, limits, retries, checks and records each call.

The LangChain faces are in `rotina.gateway.langchain`, which this package does not import.
"""

from rotina.gateway.answer import ChatAnswer, ChatChunk, Embeddings, Message, Usage
from rotina.gateway.budget import BudgetStore, PostgresBudgets
from rotina.gateway.cache import AnswerCache, PostgresCache
from rotina.gateway.gateway import Gateway
from rotina.gateway.ledger import CallLedger, MemoryLedger, ModelCall, PostgresLedger
from rotina.gateway.retry import RetryPolicy

__all__ = [
    "AnswerCache",
    "BudgetStore",
    "CallLedger",
    "ChatAnswer",
    "ChatChunk",
    "Embeddings",
    "Gateway",
    "MemoryLedger",
    "Message",
    "ModelCall",
    "PostgresBudgets",
    "PostgresCache",
    "PostgresLedger",
    "RetryPolicy",
    "Usage",
]
