"""What agents remember: LangGraph's and LangChain's stores, in PostgreSQL, for one tenant."""

from rotina.knowledge.memory.bytestore import RotinaByteStore
from rotina.knowledge.memory.store import RotinaStore, sweep_memory

__all__ = ["RotinaByteStore", "RotinaStore", "sweep_memory"]
