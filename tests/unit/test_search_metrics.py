"""Metrics of rankings, beside an independent implementation and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from rotina.knowledge.metrics import Answer, estimate, measure


def test_by_hand() -> None:
    answers = [Answer("a"), Answer("b")]
    found = [("x", 0, 9), ("a", 0, 9), ("a", 9, 20), ("b", 0, 9)]
    told = measure(found, answers, 10)
    assert told["recall"] == 1
    assert told["mrr"] == 0.5
    gain = 1 / np.log2(3) + 1 / np.log2(5)
    assert told["ndcg"] == pytest.approx(gain / (1 + 1 / np.log2(3)))
    assert measure(found, answers, 3)["recall"] == 0.5
    assert measure([], answers, 3) == {"recall": 0, "ndcg": 0, "mrr": 0}
    assert "characters_iou" not in told


def test_characters() -> None:
    answers = [Answer("a", 10, 20)]
    told = measure([("a", 0, 10), ("a", 15, 25), ("b", 10, 20)], answers, 3)
    assert (told["recall"], told["mrr"]) == (1, 0.5), "[0, 10) touches nothing of it"
    assert told["characters_recall"] == 0.5
    assert told["characters_precision"] == pytest.approx(5 / 30)
    assert told["characters_iou"] == pytest.approx(5 / 35)


@given(st.permutations(range(8)), st.sets(st.integers(0, 7), min_size=1), st.integers(1, 8))
def test_ndcg_is_scikit_learns(order: list[int], right: set[int], k: int) -> None:
    found = [(str(name), 0, 1) for name in order]
    ours = measure(found, [Answer(str(name)) for name in right], k)["ndcg"]
    relevance = [[float(name in right) for name in order]]
    scores = [[float(len(order) - place) for place in range(len(order))]]
    assert ours == pytest.approx(ndcg_score(relevance, scores, k=k))


def test_an_interval_holds_its_mean_and_narrows() -> None:
    few, many = estimate([0.0, 1.0] * 10), estimate([0.0, 1.0] * 1000)
    for each in (few, many):
        assert each.low <= each.mean == 0.5 <= each.high
    assert many.high - many.low < (few.high - few.low) / 5
    assert estimate([1.0]).low == 1.0
    assert few == estimate([0.0, 1.0] * 10), "the same each time"
