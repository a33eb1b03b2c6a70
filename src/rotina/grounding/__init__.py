"""No answer without proof: code finds the characters of a source that prove each value."""

from rotina.grounding.evidence import Evidence, GroundedField, Method
from rotina.grounding.fields import ground
from rotina.grounding.reading import Reading, read_date, read_number
from rotina.grounding.source import Source, find

__all__ = [
    "Evidence",
    "GroundedField",
    "Method",
    "Reading",
    "Source",
    "find",
    "ground",
    "read_date",
    "read_number",
]
