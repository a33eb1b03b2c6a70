"""Support bots: durable threads, cited answers, tools with consent, and people to hand over to."""

from rotina.graphs.support.consent import read_consent
from rotina.graphs.support.graph import build_support
from rotina.graphs.support.state import SupportState
from rotina.graphs.support.support import Support, SupportReply
from rotina.graphs.support.tool import Call, Tool

__all__ = [
    "Call",
    "Support",
    "SupportReply",
    "SupportState",
    "Tool",
    "build_support",
    "read_consent",
]
