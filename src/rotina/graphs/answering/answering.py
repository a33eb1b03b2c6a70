"""What a user declares: where answers come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answering:
    """Where answers come from, and how many passages may be read for one."""

    collections: tuple[str, ...] = ()
    """Collections to search; empty: the state's `collections` names them."""
    k: int = 4
    """Passages a question; each costs a small model seconds."""
    floor: float | None = None
    """Passages with a lower score are not shown to the model; without any, none is asked."""
    route: str = "smart"
    persona: str = ""
    """A line or two on who answers; part of the system prompt."""
    judged: bool = True
    """Whether each proven sentence is judged once more on whether it answers the question."""
