"""The ready-made labels: sound, in both languages, and as right as they were."""

from collections import Counter

import numpy as np
import pytest

from agents.sentiment import SENTIMENT
from agents.tickets import INTENT, PRIORITY
from rotina.embedded.embedding_server import Encoder
from rotina.embedded.weights import cache_folder, fetch, manifest
from rotina.graphs.classification import Classification
from rotina.graphs.classification.head import Head
from rotina.graphs.language import detect

AGENTS = [INTENT, PRIORITY, SENTIMENT]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: str(agent.name))
def test_examples_are_many_different_and_in_both_languages(agent: Classification) -> None:
    assert agent.learned
    counted = Counter(text.casefold() for label in agent.labels for text in label.examples)
    assert [text for text, times in counted.items() if times > 1] == []
    for label in agent.labels:
        assert label.description
        languages = Counter(detect(text) for text in label.examples)
        assert min(languages["en"], languages["pt"]) >= 3, (label.name, languages)


def test_sentiment_and_priority_always_give_a_label() -> None:
    assert not SENTIMENT.none_of_these
    assert not PRIORITY.none_of_these
    assert INTENT.none_of_these
    assert SENTIMENT.names == ("positive", "neutral", "negative")


CHECKED = [
    (INTENT, "my tracking has not moved since Monday, any news?", "order_status"),
    (INTENT, "cadê minha encomenda??", "order_status"),
    (INTENT, "queria meu dinheiro de volta", "return_refund"),
    (INTENT, "posso trocar por outra cor?", "exchange"),
    (INTENT, "you billed my visa two times", "payment_billing"),
    (INTENT, "boleto nao foi compensado", "payment_billing"),
    (INTENT, "screen cracked when I opened the box", "damaged_product"),
    (INTENT, "nao consigo logar no site", "account_login"),
    (INTENT, "essa panela vai no forno?", "product_question"),
    (INTENT, "quero cancelar a compra", "cancel_order"),
    (INTENT, "worst shop, no one ever replies", "complaint"),
    (INTENT, "you guys rock, thanks", "praise"),
    (PRIORITY, "the battery exploded in my hand", "urgent"),
    (PRIORITY, "clonaram meu cartão depois da compra", "urgent"),
    (PRIORITY, "wedding is on Saturday and the dress is still not here", "high"),
    (PRIORITY, "how can I exchange it?", "normal"),
    (PRIORITY, "parabéns pela loja", "low"),
    (SENTIMENT, "superou minhas expectativas", "positive"),
    (SENTIMENT, "does what it should, good", "positive"),
    (SENTIMENT, "when does the store open on Sunday?", "neutral"),
    (SENTIMENT, "o pedido tem três itens", "neutral"),
    (SENTIMENT, "never again, awful", "negative"),
    (SENTIMENT, "estou furioso com vocês", "negative"),
]


@pytest.mark.model
def test_what_they_sorted_right_stays_right() -> None:
    """With the embedding model itself, without a server: the cheap path's best label.

    A guard against regressions, not a measure: the examples were written with these in sight.
    """
    weights = manifest()["use-multilingual-v3"]
    encoder = Encoder(fetch(weights, cache_folder(), lambda *_: None))
    wrong = []
    for agent in AGENTS:
        head = Head.train(agent, np.array(encoder.encode([text for text, _ in agent.rows])))
        own = [(text, label) for asked, text, label in CHECKED if asked is agent]
        texts = [text for text, _ in own]
        predictions = head.predict(texts, np.array(encoder.encode(texts)))
        for (text, label), prediction in zip(own, predictions, strict=True):
            if prediction.ranking[0][0] != label:
                wrong.append((text, label, prediction.ranking[0]))
    assert len(wrong) <= len(CHECKED) // 10, wrong
