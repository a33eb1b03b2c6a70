"""Grounding: from the values of an extraction to the characters that prove them."""

from typing import Any

from rotina.grounding.choice import Chooser
from rotina.grounding.evidence import GroundedField
from rotina.grounding.labels import LabelReader
from rotina.grounding.leaves import leaves
from rotina.grounding.source import Source


def ground(
    value: Any, source: Source | str, *, schema: dict[str, Any] | None = None
) -> list[GroundedField]:
    """One field for each non-null leaf of a JSON value, in document order.

    `schema` is the value's JSON Schema; the words of its titles and descriptions help to choose
    between several places that state the same value. Evidence is None for a leaf the source
    does not state, for booleans, and for whatever is not JSON. Nothing is raised.

    Time is linear in the text, plus n log n in leaves and candidates.
    """
    held = source if isinstance(source, Source) else Source(source)
    found = list(leaves(value))
    chosen = Chooser(held, LabelReader(schema)).choose(found)
    return [
        GroundedField(
            path=leaf.pointer,
            value=leaf.value,
            evidence=None if candidate is None else held.evidence(candidate),
        )
        for leaf, candidate in zip(found, chosen, strict=True)
    ]
