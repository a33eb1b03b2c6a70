"""The whole group `rotina kb`, which several modules fill."""

from rotina.cli import evaluation, knowledge_upkeep, sources
from rotina.cli.knowledge import kb

__all__ = ["evaluation", "kb", "knowledge_upkeep", "sources"]
