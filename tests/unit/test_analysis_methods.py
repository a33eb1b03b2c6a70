"""The analyses on arrays whose answers are known."""

import math

import numpy as np
import pytest

from rotina.errors import KnowledgeError
from rotina.knowledge.analysis import (
    anomalies,
    classify,
    cluster,
    diversity,
    drift,
    leave_one_out,
    recommend,
    vendi_score,
)
from rotina.knowledge.analysis.matrix import Matrix
from rotina.knowledge.analysis.terms import distinctive_terms

TOPICS = {
    "parcel": [
        "the parcel arrives tomorrow",
        "a encomenda parcel chega amanhã",
        "where is the parcel",
        "parcel lost by the carrier",
        "o parcel não chegou",
    ],
    "fatura": [
        "a fatura veio errada",
        "the fatura is too high",
        "segunda via da fatura",
        "pagar a fatura hoje",
        "fatura em atraso",
    ],
    "doctor": [
        "book a doctor",
        "the doctor is away",
        "consulta com o doctor",
        "doctor on friday",
        "o doctor está de férias",
    ],
}
TEXTS = [text for texts in TOPICS.values() for text in texts]
GROUPS = [name for name, texts in TOPICS.items() for _ in texts]


def blobs(*sizes: int, dimensions: int = 16, noise: float = 0.05, seed: int = 0) -> Matrix:
    """Groups of rows around orthogonal directions."""
    random = np.random.default_rng(seed)
    parts = [
        np.eye(dimensions)[group] + noise * random.standard_normal((size, dimensions))
        for group, size in enumerate(sizes)
    ]
    return np.concatenate(parts).astype(np.float32)


class TestClassify:
    def test_a_query_gets_the_label_of_its_group(self) -> None:
        queries = blobs(2, 2, 2, seed=1)
        found = classify(queries, blobs(5, 5, 5), GROUPS)
        assert [each.label for each in found] == [name for name in TOPICS for _ in range(2)]
        assert {each.confidence for each in found} == {1.0}
        for each in found:
            assert {GROUPS[near.row] for near in each.neighbours} == {each.label}
            assert each.similarity == each.neighbours[0].similarity > 0.9

    def test_the_nearest_count_most(self) -> None:
        examples = np.array([[1, 0], [0.6, 0.8], [0.6, -0.8]])
        (found,) = classify(np.array([[1, 0.01]]), examples, ["near", "far", "far"], neighbours=3)
        assert found.label == "near"
        assert 0.5 < found.confidence < 1

    def test_equal_votes_go_to_the_nearest(self) -> None:
        (found,) = classify(np.array([[1, 0]]), [[1, 0], [1, 0]], ["first", "second"])
        assert found.label == "first"
        assert found.confidence == pytest.approx(0.5)

    def test_what_resembles_nothing_gets_no_label(self) -> None:
        (found,) = classify(
            np.array([[0, 1]]), np.array([[1, 0], [1, 0.1]]), ["a", "b"], minimum=0.5
        )
        assert found.label is None
        assert found.similarity < 0.5

    def test_no_query_no_answer(self) -> None:
        assert classify(np.empty((0, 16)), blobs(5, 5, 5), GROUPS) == []

    def test_leave_one_out_counts_the_right_ones(self) -> None:
        assert leave_one_out(blobs(5, 5, 5), GROUPS, neighbours=3) == 1.0
        wrong = ["stray", *GROUPS[1:]]
        assert leave_one_out(blobs(5, 5, 5), wrong, neighbours=3) == pytest.approx(14 / 15)

    def test_one_label_teaches_nothing(self) -> None:
        with pytest.raises(KnowledgeError, match="every example is labelled 'a'"):
            leave_one_out(np.eye(3), ["a"] * 3)

    def test_its_errors(self) -> None:
        examples = np.eye(3)
        with pytest.raises(KnowledgeError, match="queries has 2 dimensions and examples 3"):
            classify(np.eye(2), examples, ["a", "b", "c"])
        with pytest.raises(KnowledgeError, match="examples has 3 rows and labels 2"):
            classify(examples, examples, ["a", "b"])
        with pytest.raises(KnowledgeError, match="4 neighbours were asked for, and there are 3"):
            classify(examples, examples, ["a", "b", "c"], neighbours=4)
        with pytest.raises(KnowledgeError, match="examples has no rows"):
            classify(examples, np.empty((0, 3)), [])


class TestCluster:
    def test_the_number_of_topics_is_found(self) -> None:
        found = cluster(blobs(5, 8, 6))
        assert [topic.size for topic in found.topics] == [8, 6, 5]
        assert found.labels == [2] * 5 + [0] * 8 + [1] * 6
        assert max(found.tried, key=lambda trial: trial.silhouette).k == 3
        assert found.silhouette is not None
        assert found.silhouette > 0.7

    def test_topics_are_called_by_what_sets_them_apart(self) -> None:
        found = cluster(blobs(5, 5, 5), TEXTS, k=3)
        assert {topic.terms[0] for topic in found.topics} == set(TOPICS)
        for topic in found.topics:
            assert len(topic.rows) == 3
            assert {found.labels[row] for row in topic.rows} == {topic.number}
            assert topic.label.startswith(topic.terms[0])
            assert not {"the", "is", "com", "da", "não", "está"} & set(topic.terms)

    def test_hdbscan_leaves_strays_without_a_topic(self) -> None:
        rows = np.concatenate([blobs(20, 20, 20), -np.ones((1, 16), np.float32)])
        found = cluster(rows, method="hdbscan", smallest=5)
        assert [topic.size for topic in found.topics] == [20, 20, 20]
        assert found.labels[-1] == -1
        assert found.tried == []

    def test_hdbscan_in_many_dimensions(self) -> None:
        rows = blobs(30, 30, 30, dimensions=256, noise=0.02)
        assert len(cluster(rows, method="hdbscan").topics) == 3

    def test_the_representative_rows_are_nearest_to_the_centre(self) -> None:
        rows = np.array([[1, 0, 0], [1, 0.5, 0], [1, -0.5, 0], [1, 0, 0.9], [1, 0, -0.9]])
        (topic,) = cluster(rows, k=1, representatives=3).topics
        assert topic.rows[0] == 0
        assert set(topic.rows) == {0, 1, 2}
        assert cluster(rows, k=1).silhouette is None

    def test_copies_are_one_topic(self) -> None:
        found = cluster(np.ones((6, 4)))
        assert found.labels == [0] * 6
        assert found.topics[0].cohesion == pytest.approx(1)

    def test_two_kinds_of_copies_are_two_topics(self) -> None:
        assert cluster(np.array([[1, 0]] * 4 + [[0, 1]] * 2)).labels == [0, 0, 0, 0, 1, 1]

    def test_two_rows_are_one_topic(self) -> None:
        assert cluster(np.array([[1, 0], [0, 1]])).labels == [0, 0]

    def test_its_errors(self) -> None:
        rows = np.eye(4)
        with pytest.raises(KnowledgeError, match="k is 5, and there are 4 different rows in 4"):
            cluster(rows, k=5)
        with pytest.raises(KnowledgeError, match="k is 2, and there are 1 different rows in 3"):
            cluster(np.ones((3, 2)), k=2)
        with pytest.raises(KnowledgeError, match="k is 0"):
            cluster(rows, k=0)
        with pytest.raises(KnowledgeError, match="most is 1"):
            cluster(rows, most=1)
        with pytest.raises(KnowledgeError, match="matrix has 4 rows and texts 1"):
            cluster(rows, ["one"])
        with pytest.raises(KnowledgeError, match="hdbscan finds the number itself"):
            cluster(rows, method="hdbscan", k=2)
        with pytest.raises(KnowledgeError, match="smallest is 9"):
            cluster(rows, method="hdbscan", smallest=9)
        with pytest.raises(KnowledgeError, match="terms is -1"):
            cluster(rows, terms=-1)

    def test_hdbscan_refuses_more_rows_than_it_can_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rotina.knowledge.analysis.clustering.HDBSCAN_ROWS", 3)
        with pytest.raises(KnowledgeError, match="at most 3 rows, not 4: use kmeans"):
            cluster(np.eye(4), method="hdbscan", smallest=2)


class TestTerms:
    def test_words_of_one_group_come_before_words_of_all(self) -> None:
        texts = ["cartão cartão comum", "senha senha comum"]
        assert distinctive_terms(texts, [0, 1], 2) == {
            0: ["cartão", "comum"],
            1: ["senha", "comum"],
        }

    def test_a_group_without_words_has_no_terms(self) -> None:
        assert distinctive_terms(["the 42 !", "cartão"], [0, 1], 3) == {0: [], 1: ["cartão"]}
        assert distinctive_terms(["", "de a o"], [0, 1], 3) == {0: [], 1: []}


class TestRecommend:
    def test_more_like_these_without_the_given(self) -> None:
        found = recommend(blobs(5, 5), [0, 1], k=3)
        assert {each.row for each in found} == {2, 3, 4}
        assert [each.score for each in found] == sorted(
            (each.score for each in found), reverse=True
        )

    def test_not_like_those(self) -> None:
        rows = np.array([[1, 0, 0], [0.7, 0.7, 0], [0.7, 0, 0.7], [0, 1, 0.1]])
        assert recommend(rows, [0], k=1)[0].row == 1
        assert recommend(rows, [0], [3], k=1)[0].row == 2
        assert recommend(rows, [0], [3], k=1, against=0)[0].row == 1

    def test_the_rest_is_all_there_is(self) -> None:
        assert len(recommend(np.eye(4), [0], k=10)) == 3

    def test_spread_does_not_recommend_the_same_twice(self) -> None:
        rows = np.array([[1, 0, 0], [0.9, 0.4, 0], [0.9, 0.4, 0.001], [0.8, -0.6, 0]])
        assert [each.row for each in recommend(rows, [0], k=2)] == [1, 2]
        assert [each.row for each in recommend(rows, [0], k=2, spread=0.5)] == [1, 3]

    def test_its_errors(self) -> None:
        rows = np.eye(3)
        with pytest.raises(KnowledgeError, match="Nothing to be like"):
            recommend(rows, [])
        with pytest.raises(KnowledgeError, match="There is no row 3: the rows are 0 to 2"):
            recommend(rows, [0], [3])
        with pytest.raises(KnowledgeError, match="Row 1 is liked and disliked"):
            recommend(rows, [1], [1])
        with pytest.raises(KnowledgeError, match="k is 0"):
            recommend(rows, [0], k=0)
        with pytest.raises(KnowledgeError, match="against is nan"):
            recommend(rows, [0], against=math.nan)
        with pytest.raises(KnowledgeError, match="spread is 2"):
            recommend(rows, [0], spread=2)
        with pytest.raises(KnowledgeError, match="cancel out"):
            recommend([[1, 0], [-1, 0], [0, 1]], [0, 1])


class TestAnomalies:
    def test_the_stray_row_stands_out(self) -> None:
        rows = np.concatenate([blobs(30, 30), -np.ones((1, 16), np.float32)])
        found = anomalies(rows)
        assert [each.row for each in found.found] == [60]
        assert found.scores[60] == found.found[0].score > found.threshold
        assert found.neighbours == 10
        assert "Tukey" in found.rule

    def test_a_threshold_and_a_share_are_kept_to(self) -> None:
        rows = blobs(50, noise=0.2)
        shared = anomalies(rows, share=0.1)
        assert len(shared.found) == 5
        cut = shared.found[2].score
        given = anomalies(rows, threshold=cut)
        assert [each.row for each in given.found] == [each.row for each in shared.found[:2]]

    def test_copies_have_no_anomalies(self) -> None:
        found = anomalies(np.ones((20, 3)))
        assert found.found == []
        assert max(found.scores) == pytest.approx(0, abs=1e-6)

    def test_one_stray_among_copies(self) -> None:
        found = anomalies(np.array([[1, 0]] * 30 + [[0, 1]]))
        assert [each.row for each in found.found] == [30]
        assert found.scores[30] == pytest.approx(1)

    def test_its_errors(self) -> None:
        rows = np.eye(5)
        with pytest.raises(KnowledgeError, match="5 neighbours were asked for, and there are 4"):
            anomalies(rows, neighbours=5)
        with pytest.raises(KnowledgeError, match="0 neighbours"):
            anomalies(rows, neighbours=0)
        with pytest.raises(KnowledgeError, match="give one"):
            anomalies(rows, threshold=1, share=0.1)
        with pytest.raises(KnowledgeError, match="share is 1"):
            anomalies(rows, share=1)


class TestDrift:
    def test_a_new_topic_is_drift(self) -> None:
        after = blobs(20, 20, 20, noise=0.2, seed=1)
        found = drift(blobs(30, 30, noise=0.2), after)
        assert found.drifted
        assert found.p_value == 0.001
        assert found.mmd > 0
        assert found.auc > 0.55
        assert set(found.newest) <= set(range(40, 60))

    def test_the_same_topics_are_none(self) -> None:
        found = drift(blobs(40, 40, noise=0.2), blobs(40, 40, noise=0.2, seed=1))
        assert not found.drifted
        assert found.mmd == pytest.approx(0, abs=0.02)

    def test_false_alarms_keep_to_the_level(self) -> None:
        alarms = sum(
            drift(
                blobs(10, 10, noise=0.3, seed=2 * seed),
                blobs(10, 10, noise=0.3, seed=2 * seed + 1),
                level=0.2,
                permutations=99,
            ).drifted
            for seed in range(30)
        )
        assert alarms <= 13  # 6 are expected; more than 13 come about once in 1,000 tries

    def test_copies_do_not_differ(self) -> None:
        found = drift(np.ones((10, 4)), np.ones((12, 4)))
        assert found.p_value == 1
        assert found.auc == pytest.approx(0.5)

    def test_large_sets_are_sampled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rotina.knowledge.analysis.two_samples.SAMPLE", 20)
        found = drift(blobs(30), blobs(0, 12, 40))
        assert found.compared == (20, 20)
        assert found.drifted
        assert set(found.newest) <= set(range(52))

    def test_its_errors(self) -> None:
        rows = np.eye(12)
        with pytest.raises(KnowledgeError, match="after has 9 rows, and this needs at least 10"):
            drift(rows, rows[:9])
        with pytest.raises(KnowledgeError, match="before has 12 dimensions and after 11"):
            drift(rows, rows[:11, :11])
        with pytest.raises(KnowledgeError, match="level is 0"):
            drift(rows, rows, level=0)
        with pytest.raises(KnowledgeError, match=r"level 0\.01 needs from 100"):
            drift(rows, rows, level=0.01, permutations=99)
        with pytest.raises(KnowledgeError, match="newest is -1"):
            drift(rows, rows, newest=-1)


class TestDiversity:
    @pytest.mark.parametrize("rows", [1, 2, 7, 40])
    def test_copies_are_as_varied_as_one(self, rows: int) -> None:
        assert vendi_score(np.full((rows, 8), 0.3)) == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize("rows", [1, 2, 7, 40])
    def test_orthogonal_rows_are_all_different(self, rows: int) -> None:
        assert vendi_score(np.eye(rows, 50)) == pytest.approx(rows)
        assert vendi_score(5 * np.eye(rows)) == pytest.approx(rows)

    def test_the_smaller_matrix_has_the_same_eigenvalues(self) -> None:
        """Against the definition, with the (n, n) kernel in full."""
        rows = np.random.default_rng(0).standard_normal((60, 7))
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        shares = np.linalg.eigvalsh(unit @ unit.T / 60)[-7:]
        assert vendi_score(rows) == pytest.approx(
            np.exp(-np.sum(shares * np.log(shares))), rel=1e-5
        )

    def test_half_copies(self) -> None:
        found = diversity(np.array([[1, 0]] * 3 + [[0, 1]] * 3))
        assert found.vendi == pytest.approx(2)
        assert found.mean_similarity == pytest.approx(6 / 15)
        assert found.near_pairs == 6
        assert [(pair.first, pair.second) for pair in found.pairs] == [
            (0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)
        ]  # fmt: skip

    def test_pairs_are_the_most_similar_first(self) -> None:
        rows = np.array([[1, 0], [1, 0.2], [1, 0.01], [0, 1]])
        found = diversity(rows, near=0.9, most=2)
        assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 2), (1, 2)]
        assert found.near_pairs == 3
        assert diversity(rows, near=0.9, most=0).pairs == []

    @pytest.mark.parametrize("values", [1, 7, 50, 10**6])
    def test_blocks_change_nothing(self, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = diversity(blobs(9, 8, 7), near=0.9)
        monkeypatch.setattr("rotina.knowledge.analysis.vendi.BLOCK_VALUES", values)
        blocks = diversity(blobs(9, 8, 7), near=0.9)
        assert whole.near_pairs == 9 * 8 // 2 + 8 * 7 // 2 + 7 * 6 // 2
        assert blocks.vendi == pytest.approx(whole.vendi)
        assert {(p.first, p.second) for p in blocks.pairs} == {
            (p.first, p.second) for p in whole.pairs
        }

    def test_its_errors(self) -> None:
        with pytest.raises(KnowledgeError, match="near is 2"):
            diversity(np.eye(3), near=2)
        with pytest.raises(KnowledgeError, match="most is -1"):
            diversity(np.eye(3), most=-1)
        with pytest.raises(KnowledgeError, match="1 row, and this needs at least 2"):
            diversity(np.array([[1, 0]]))
