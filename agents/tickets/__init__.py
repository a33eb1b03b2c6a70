"""Sorts a shop's support messages by what they want and how urgent they are, in en and pt."""

from agents.tickets.intent import INTENT
from agents.tickets.priority import PRIORITY

__all__ = ["INTENT", "PRIORITY"]
