"""Terms that distinguish groups of texts: class-based TF-IDF (Grootendorst, BERTopic, 2022)."""

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt

WORD = r"(?u)\b[^\W\d_]{2}[^\W_]*\b"
"""A word: two letters, then letters or digits. Numbers say little about a topic."""

CHARACTERS = 4000
"""Characters of each text that are read: what a topic is called shows at the beginning."""


@functools.cache
def stop_words() -> frozenset[str]:
    """English and Portuguese words that say nothing about a topic (the Snowball lists)."""
    text = resources.files(__package__).joinpath("stop_words.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(word for line in lines for word in line.split())


def distinctive_terms(
    texts: Sequence[str], groups: npt.ArrayLike, number: int
) -> dict[int, list[str]]:
    """At most `number` terms for each group, the most distinctive first.

    `groups`, (n,), has the group of each text. The weight of a term in a group is its share of the
    group's words × log(1 + A / f): A is the mean number of words a group, f how often the term
    occurs in all groups. A group without words has no terms.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415

    group_of = np.asarray(groups)
    names, place = np.unique(group_of, return_inverse=True)
    terms: dict[int, list[str]] = {int(name): [] for name in names}
    vectorizer = CountVectorizer(lowercase=True, token_pattern=WORD)
    split = vectorizer.build_analyzer()
    skipped = stop_words()
    counter = CountVectorizer(
        analyzer=lambda text: [word for word in split(text[:CHARACTERS]) if word not in skipped]
    )
    try:
        counts = counter.fit_transform(texts)
    except ValueError:  # scikit-learn's word for "no words at all"
        return terms
    vocabulary = counter.get_feature_names_out()
    total = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    mean_words = total.sum() / len(names)
    idf = np.log1p(mean_words / total)
    for index, name in enumerate(names):
        own = np.asarray(counts[place == index].sum(axis=0), dtype=np.float64).ravel()
        weights = own / max(own.sum(), 1) * idf
        # The vocabulary is sorted, so equal weights come in alphabetical order.
        order = np.argsort(-weights, kind="stable")[:number]
        terms[int(name)] = [str(vocabulary[i]) for i in order if weights[i] > 0]
    return terms
