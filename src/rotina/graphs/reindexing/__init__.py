"""Reindexing: a collection is embedded anew, by another model, while it is used."""

from rotina.graphs.reindexing.graph import build_reindexing
from rotina.graphs.reindexing.state import Reindexed, ReindexingState

__all__ = ["Reindexed", "ReindexingState", "build_reindexing"]
