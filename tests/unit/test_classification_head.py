"""The cheap path's learning: what it says, and how sure it is."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rotina.graphs.classification import Classification, Label
from rotina.graphs.classification.features import LANDMARKS, Spelling, unit
from rotina.graphs.classification.head import REGULARISATION, Head, Linear
from tests.unit.classification_stage import TOPICS, examples, vector


def matrix(texts: list[str]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.array([vector(text) for text in texts], dtype=np.float32)


def trained() -> Head:
    labels = [Label(name) for name in TOPICS]
    declaration = Classification("t", labels).with_examples(examples())
    return Head.train(declaration, matrix([text for text, _ in declaration.rows]))


def test_it_finds_the_label_of_texts_it_has_not_seen() -> None:
    texts = ["refund of my money back", "oi pedido muito atrasado", "help cannot login sir"]
    predictions = trained().predict(texts, matrix(texts))
    assert [one.ranking[0][0] for one in predictions] == ["refund", "late", "login"]
    for one in predictions:
        assert sum(score for _, score in one.ranking) == pytest.approx(1)
        assert sorted(score for _, score in one.ranking)[::-1] == [s for _, s in one.ranking]
        assert one.nearest[0][1] == one.ranking[0][0]


def test_strange_texts_have_little_support() -> None:
    known, strange = "forgot password today", "bananas grow on Mars"
    head = trained()
    first, second = head.predict([known, strange], matrix([known, strange]))
    assert first.support > 0.5
    assert second.support == pytest.approx(1 / (1 + len(examples())))


def test_of_held_out_examples_a_share_has_no_more_support_than_that_share() -> None:
    pairs = examples()
    kept, out = pairs[::2], [text for text, _ in pairs[1::2]]
    declaration = Classification("t", [Label(name) for name in TOPICS]).with_examples(kept)
    head = Head.train(declaration, matrix([text for text, _ in declaration.rows]))
    supports = [one.support for one in head.predict(out, matrix(out))]
    for share in (0.1, 0.5):
        assert sum(support <= share for support in supports) / len(out) <= share + 0.1


def test_few_examples_reject_nothing_and_calibrate_nothing() -> None:
    declaration = Classification("t", [Label("yes", examples=["sim"]), Label("no")])
    head = Head.train(declaration, matrix([text for text, _ in declaration.rows]))
    assert head.temperature == 1
    prediction = head.predict(["sim"], matrix(["sim"]))[0]
    assert prediction.support >= 0.5
    assert prediction.ranking[0][0] == "yes"
    assert prediction.nearest == [("sim", "yes")]


@pytest.mark.parametrize("labels", [2, 3])
def test_probabilities_are_those_of_scikit_learn(labels: int) -> None:
    chooser = np.random.default_rng(0)
    features = chooser.normal(size=(60, 8)).astype(np.float32)
    names = np.array([f"label {number % labels}" for number in range(60)])
    ours = np.exp(Linear.fit(features, names).scores(features))
    ours /= ours.sum(axis=1, keepdims=True)
    theirs = LogisticRegression(C=REGULARISATION, max_iter=1000).fit(features, names)
    assert np.allclose(ours, theirs.predict_proba(features), atol=1e-4)


def test_training_twice_gives_the_same() -> None:
    texts = ["onde está o meu dinheiro"]
    first, second = (trained().predict(texts, matrix(texts))[0] for _ in range(2))
    assert first == second


def test_spelling_is_exact_up_to_the_landmarks_and_ignores_accents() -> None:
    texts = [text for text, _ in examples()]
    spelling = Spelling.learn(texts)
    read = spelling.read(texts)
    assert len(texts) < LANDMARKS
    weighed = [vectorizer.transform(texts) for vectorizer, _ in spelling.kinds]
    exact = sum((one @ one.T).toarray() for one in weighed) / len(weighed)
    assert np.allclose(read @ read.T, exact, atol=1e-3)
    assert np.allclose(spelling.read(["onde está"]), spelling.read(["onde esta"]))


def test_a_vector_of_zeros_stays() -> None:
    given = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    assert np.allclose(unit(given), np.array([[0.6, 0.8], [0, 0]]))
