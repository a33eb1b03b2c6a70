"""The whole group `rotina kb`, which several modules fill."""

from rotina.cli import knowledge_upkeep
from rotina.cli.knowledge import kb

__all__ = ["kb", "knowledge_upkeep"]
