"""What the analyses refuse, and properties that hold for every input."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis import (
    Recommended,
    anomalies,
    classify,
    cluster,
    diversity,
    recommend,
    vendi_score,
)
from rotina.knowledge.analysis.matrix import Matrix, unit_rows

ANALYSES: dict[str, Callable[[npt.ArrayLike], object]] = {
    "classify": lambda rows: classify(rows, rows, ["a"] * np.shape(rows)[0]),
    "cluster": cluster,
    "recommend": lambda rows: recommend(rows, [0]),
    "anomalies": anomalies,
    "diversity": diversity,
    "vendi_score": vendi_score,
}
BAD: list[tuple[npt.ArrayLike, str]] = [
    (np.empty((0, 4)), "has no rows"),
    (np.empty((4, 0)), "has no dimensions"),
    (np.ones(4), r"has the shape \(4,\)"),
    (np.ones((2, 2, 2)), r"has the shape \(2, 2, 2\)"),
    (np.array([[1, 2], [0, 0]]), "row 1 of .* has only zeros"),
    (np.array([[1, 2], [np.nan, 1]]), "row 1 of .* has NaN"),
    (np.array([[-np.inf, 2], [1, 1]]), "row 0 of .* has NaN or an infinity"),
    (np.array([[1j, 2], [1, 1]]), "holds complex128, not real numbers"),
    (np.array([["a"], ["b"]]), "holds <U1, not real numbers"),
]


@pytest.mark.parametrize("name", list(ANALYSES))
@pytest.mark.parametrize(("rows", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_rows_are_refused_by_all(name: str, rows: npt.ArrayLike, message: str) -> None:
    with pytest.raises(KnowledgeError, match=message):
        ANALYSES[name](rows)


@pytest.mark.parametrize("name", ["cluster", "recommend", "anomalies", "diversity"])
def test_one_row_is_too_few(name: str) -> None:
    with pytest.raises(KnowledgeError, match="1 row, and this needs at least 2: add texts"):
        ANALYSES[name]([[1.0, 2.0]])


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(KnowledgeError, match="rows of different lengths"):
        diversity([[1, 2], [1]])


def test_too_many_rows_are_refused_before_anything_is_copied() -> None:
    wide = np.broadcast_to(np.float32(1), (20_000, 4096))
    with pytest.raises(
        KnowledgeError, match="20000 rows of 4096 dimensions, and at most 15625 fit"
    ):
        diversity(wide)
    tall = np.broadcast_to(np.float32(1), (100_001, 2))
    with pytest.raises(KnowledgeError, match="at most 100000 fit: narrow the filter"):
        anomalies(tall)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30, 3e38])
def test_the_length_of_a_row_makes_no_difference(scale: float) -> None:
    rows = np.asarray([[3, 4], [-4, 3]], dtype=np.float64) / 4
    unit = unit_rows((rows * scale).astype(np.float32))
    assert unit == pytest.approx(np.asarray([[0.6, 0.8], [-0.8, 0.6]]), abs=1e-5)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.uint64])
def test_every_kind_of_real_number_is_taken(kind: type) -> None:
    unit = unit_rows(np.asarray([[3, 4], [0, 2]], dtype=kind))
    assert unit.dtype == np.float32
    assert unit == pytest.approx(np.asarray([[0.6, 0.8], [0, 1]]), abs=1e-6)


def test_the_given_matrix_is_left_alone() -> None:
    rows = np.asarray([[3, 4], [5, 0]], dtype=np.float32)
    for analysis in ANALYSES.values():
        analysis(rows)
    assert rows.tolist() == [[3, 4], [5, 0]]


@st.composite
def matrices(draw: st.DrawFn, least: int = 3) -> Matrix:
    """Rows with a direction; copies and opposite rows included."""
    shape = (draw(st.integers(least, 12)), draw(st.integers(2, 5)))
    rows = draw(arrays.arrays(np.int8, shape, elements=st.integers(-5, 5)))
    rows = rows[np.abs(rows).sum(axis=1) > 0]
    if len(rows) < least:
        rows = np.concatenate([rows, np.eye(least, shape[1], dtype=np.int8) + 1])
    return rows.astype(np.float32)


@given(matrices(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_rows_makes_no_difference(rows: Matrix, random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = rows[order]
    scores = np.asarray(anomalies(rows).scores)
    assert np.asarray(anomalies(shuffled).scores) == pytest.approx(scores[order], abs=1e-5)
    one, other = diversity(rows), diversity(shuffled)
    assert other.vendi == pytest.approx(one.vendi, rel=1e-4)
    assert other.mean_similarity == pytest.approx(one.mean_similarity, abs=1e-5)
    assert other.near_pairs == one.near_pairs


@given(matrices(), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_topics_do_not_depend_on_the_order(rows: Matrix, random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = cluster(rows, most=4), cluster(rows[order], most=4)
    together = {(a, b) for a in order for b in order if one.labels[a] == one.labels[b]}
    again = {
        (order[a], order[b])
        for a in range(len(order))
        for b in range(len(order))
        if other.labels[a] == other.labels[b]
    }
    assert together == again


@given(matrices())
@settings(max_examples=60, deadline=None)
def test_every_figure_is_within_its_bounds(rows: Matrix) -> None:
    varied = diversity(rows, near=-1)
    count = len(rows)
    assert 1 <= varied.vendi <= min(rows.shape) + 1e-3
    assert -1 <= varied.mean_similarity <= 1
    assert varied.near_pairs == count * (count - 1) // 2
    assert all(-1 <= pair.similarity <= 1 and pair.first < pair.second for pair in varied.pairs)
    assert all(0 <= score <= 2 for score in anomalies(rows).scores)
    assert all(-1 <= each.score <= 1 for each in _recommended(rows))
    for each in classify(rows, rows, [str(row % 2) for row in range(count)]):
        assert 0.5 - 1e-9 <= each.confidence <= 1 + 1e-9
        assert each.similarity == pytest.approx(1, abs=1e-5)


@given(matrices(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_spread_changes_the_order_not_the_choice_of_all(rows: Matrix, spread: int) -> None:
    plain = {each.row for each in recommend(rows, [0], k=50)}
    spread_out = {each.row for each in recommend(rows, [0], k=50, spread=spread / 5)}
    assert plain == spread_out == set(range(1, len(rows)))


@given(matrices())
@settings(max_examples=40, deadline=None)
def test_a_copy_of_every_row_changes_no_diversity(rows: Matrix) -> None:
    """The Vendi score depends on the shares, not on the number."""
    assert vendi_score(np.concatenate([rows, rows])) == pytest.approx(vendi_score(rows), rel=1e-4)


def _recommended(rows: Matrix) -> list[Recommended]:
    return recommend(rows, [0])
