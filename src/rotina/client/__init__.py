"""Rotina for programs: `from rotina import Rotina`, in process or against a server."""

from rotina.client.rotina import Rotina
from rotina.client.sync import RotinaSync

__all__ = ["Rotina", "RotinaSync"]
