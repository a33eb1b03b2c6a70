"""Rotina: durable workflow-automation agents."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rotina.client import Rotina as Rotina

__all__ = ["Rotina"]


def __getattr__(name: str) -> object:
    """`from rotina import Rotina`, without its cost for who imports something else."""
    if name == "Rotina":
        return importlib.import_module("rotina.client").Rotina
    raise AttributeError(f"module 'rotina' has no attribute {name!r}")
