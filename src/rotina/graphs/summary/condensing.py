"""Decides what is condensed next. Every level holds fewer notes than the one below."""

from collections.abc import Sequence

from rotina.graphs.language import Language
from rotina.graphs.summary.state import BatchState, Note, Notes


def latest(groups: Sequence[Notes]) -> tuple[int, list[Note]]:
    """The highest level, and its notes in the order of the source."""
    level = max(group["level"] for group in groups)
    ordered = sorted(
        (group for group in groups if group["level"] == level), key=lambda group: group["index"]
    )
    return level, [note for group in ordered for note in group["notes"]]


def batches(
    notes: Sequence[Note], level: int, room: int, sentences: int, language: Language
) -> list[BatchState]:
    """Batches of at most `room` characters, two notes at least; none when few enough are left.

    A single batch ends in `sentences` notes; each of several in half of its own.
    """
    if len(notes) <= sentences:
        return []
    groups: list[list[Note]] = [[]]
    used = 0
    for note in notes:
        size = len(note["text"]) + 8
        if len(groups[-1]) > 1 and used + size > room:
            groups.append([])
            used = 0
        groups[-1].append(note)
        used += size
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2] += groups.pop()
    single = len(groups) == 1
    return [
        {
            "level": level + 1,
            "index": index,
            "notes": group,
            "sentences": sentences if single else len(group) // 2,
            "language": language,
        }
        for index, group in enumerate(groups)
    ]


def thinned(notes: Sequence[Note], count: int) -> list[Note]:
    """`count` of the notes, evenly spaced: for a batch that no model would condense."""
    return [notes[index * len(notes) // count] for index in range(min(count, len(notes)))]
