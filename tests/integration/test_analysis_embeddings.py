"""The analyses on what the embedded model makes of texts in two languages."""

import numpy as np
import pytest

from rotina.embedded.embedding_server import Encoder
from rotina.embedded.weights import cache_folder, fetch, manifest
from rotina.knowledge.analysis import anomalies, classify, cluster, recommend
from rotina.knowledge.analysis.matrix import Matrix

TEXTS = [
    "Where is my order? It has not arrived.",
    "My parcel is late, when will it be delivered?",
    "Onde está o meu pedido?",
    "A encomenda ainda não foi entregue.",
    "I was charged twice on my credit card.",
    "There is a payment on my card that I did not make.",
    "Fui cobrado duas vezes no cartão de crédito.",
    "Há um pagamento no meu cartão que não reconheço.",
    "I would like to book an appointment with the doctor.",
    "Can I move my appointment with the doctor to Friday?",
    "Quero agendar uma consulta com o médico.",
    "Posso remarcar a consulta com o médico para sexta?",
]
LABELS = ["order"] * 4 + ["card"] * 4 + ["appointment"] * 4
ENGLISH = [row for row in range(12) if row % 4 < 2]
PORTUGUESE = [row for row in range(12) if row % 4 >= 2]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    weights = manifest()["use-multilingual-v3"]
    return Encoder(fetch(weights, cache_folder(), lambda name, done, total: None))


@pytest.fixture(scope="module")
def matrix(encoder: Encoder) -> Matrix:
    return np.stack(encoder.encode(TEXTS))


@pytest.mark.model
def test_topics_join_the_languages(matrix: Matrix) -> None:
    found = cluster(matrix, TEXTS, k=3)
    assert len({(label, topic) for label, topic in zip(LABELS, found.labels, strict=True)}) == 3
    terms = {term for topic in found.topics for term in topic.terms}
    assert {"card", "cartão", "appointment", "consulta"} <= terms


@pytest.mark.model
def test_english_examples_label_portuguese_texts(matrix: Matrix) -> None:
    known = [LABELS[row] for row in ENGLISH]
    found = classify(matrix[PORTUGUESE], matrix[ENGLISH], known, neighbours=2)
    assert [each.label for each in found] == [LABELS[row] for row in PORTUGUESE]


@pytest.mark.model
def test_more_of_the_same_in_the_other_language(matrix: Matrix) -> None:
    found = recommend(matrix, [TEXTS.index("Quero agendar uma consulta com o médico.")], k=3)
    assert {each.row for each in found} == {8, 9, 11}


@pytest.mark.model
def test_what_is_about_something_else_has_the_highest_score(
    encoder: Encoder, matrix: Matrix
) -> None:
    odd = np.stack(encoder.encode(["Os ursos-polares nadam sob a aurora boreal."]))
    scores = anomalies(np.concatenate([matrix, odd]), neighbours=3).scores
    assert np.argmax(scores) == 12
