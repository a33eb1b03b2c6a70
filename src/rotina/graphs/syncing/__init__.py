"""Syncing: a collection catches up with a source that it follows."""

from rotina.graphs.syncing.graph import build_syncing
from rotina.graphs.syncing.state import Synced, SyncingState

__all__ = ["Synced", "SyncingState", "build_syncing"]
