"""The page of `rotina kb eval --report`: whole, without a script, and texts stay texts."""

import base64
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from lxml import etree, html

from rotina.errors import InvalidInputError, KnowledgeError
from rotina.knowledge.evaluation import ChunkSize, Component, Evaluation, Swept, Weighed
from rotina.knowledge.evaluation_report import check_report, save_report
from rotina.knowledge.metrics import Estimate, estimate
from rotina.knowledge.misses import Instead, Missed, Wanted

HOSTILE = "</script><script>alert('Qual é o prazo?')</script>\x0b\x00"
METRICS = ("recall", "ndcg", "mrr", "characters_recall", "characters_precision", "characters_iou")
CHANCE = np.random.default_rng(3)


def values(mean: float, spread: float = 0.2) -> dict[str, Estimate]:
    """Every metric, as of 40 questions."""
    return {
        name: estimate(np.clip(CHANCE.normal(mean - place / 20, spread, 40), -1, 1).tolist())
        for place, name in enumerate(METRICS)
    }


def evaluation() -> Evaluation:
    """One with everything: a reranker, a sweep, chunk sizes, two languages, and misses."""
    means = {"text": 0.55, "vectors": 0.7, "fused": 0.8, "reranked": 0.85}
    components = [
        Component(
            name=name,
            all=values(mean),
            languages={"en": values(mean + 0.05), "pt": values(mean - 0.05)},
            behind_fused={} if name == "fused" else values(0.8 - mean, 0.1),
        )
        for name, mean in means.items()
    ]
    weights = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5, None)
    tried = [
        Weighed(vectors=each, chosen=values(0.7)["ndcg"], checked=values(0.68)["ndcg"])
        for each in weights
    ]
    swept = Swept(
        vectors=0.6, chosen=values(0.8), checked=values(0.75), default=values(0.76),
        ahead=values(0.02), tried=tried,
    )  # fmt: skip
    sizes = [
        ChunkSize(limit=limit, chunks=600 * 600 // limit, k=6000 // limit, all=values(mean),
                  behind=values(0.8 - mean, 0.1))
        for limit, mean in ((300, 0.7), (1200, 0.85))
    ]  # fmt: skip
    rules = Wanted(uri="docs/regras.md", text="O reembolso leva sete dias úteis. " * 8, whole=False)
    wrong = Instead(
        uri="docs/entrega.md", section="Manual › Entrega", text="A entrega é grátis. " * 18,
        text_score=0.41, vector_score=0.83,
    )  # fmt: skip
    missed = [
        Missed(question="Em quantos dias recebo meu dinheiro de volta?", language="pt",
               wanted=[rules], instead=[wrong, wrong], found_by=["text"]),
        Missed(question="How long does a refund take?", language="en",
               wanted=[Wanted(uri="terms.html", text="Terms & conditions <2026>", whole=True)],
               instead=[], found_by=[]),
        Missed(question=HOSTILE, language="pt", found_by=["text", "vectors"],
               wanted=[Wanted(uri=HOSTILE, text=HOSTILE, whole=False)],
               instead=[Instead(uri=HOSTILE, section=HOSTILE, text=HOSTILE, text_score=0.0,
                                vector_score=0.5)]),
    ]  # fmt: skip
    return Evaluation(
        collection="help", k=10, questions=40, components=components, worst=[], chunk_limit=600,
        misses=7, missed=missed, sweep=swept, chunk_sizes=sizes,
    )  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> str:
    save_report(evaluation(), tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(page: str) -> None:
    tree = html.fromstring(page)
    assert tree.xpath("//script | //link | //iframe | //object | //@onload") == []
    assert {each.partition(",")[0] for each in tree.xpath("//@src")} == {
        "data:image/svg+xml;base64"
    }
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert not re.search(r'(?:src|href)="https?:', page)


def test_everything_is_on_it(page: str) -> None:
    text = " ".join(html.fromstring(page).text_content().split())
    for said in (
        "How well help is searched", "7 of 40 questions find nothing right", "Each language",
        "How far the fused search is ahead", "Other weights", "vectors at 0.6",
        "Chunks of other sizes", "600 (now)", "1,200", "the first 3 of them",
        "Em quantos dias recebo meu dinheiro de volta?", "Found by text, lost by the fused search",
        "O reembolso leva sete dias úteis.", "A entrega é grátis.", "Terms & conditions <2026>",
        "No way to search finds it.", "Found instead: nothing.", "words 0.41, vectors 0.83",
    ):  # fmt: skip
        assert said in text, said
    assert html.fromstring(page).xpath("//h3/@lang") == ["pt", "en", "pt"]


def test_charts_show_each_figure(page: str) -> None:
    sources = html.fromstring(page).xpath("//img/@src")
    charts = [base64.b64decode(each.partition(",")[2]) for each in sources]
    assert len(charts) == 5
    texts = [" ".join(etree.fromstring(each).itertext()) for each in charts]
    assert all(name in texts[0] for name in ("reranked", *METRICS))
    assert all(language in texts[1] for language in ("en", "pt"))
    assert "fused" not in texts[2], "it is not ahead of itself"
    assert "vectors alone" in texts[3]
    assert "600 (now)" in texts[4]


def test_a_text_stays_a_text(page: str) -> None:
    assert "<script" not in page
    (question,) = [each for each in html.fromstring(page).xpath("//h3/text()") if "alert" in each]
    assert question.startswith("</script><script>alert('Qual é o prazo?')</script>")
    assert "\x0b" not in page
    assert "\x00" not in page


def test_the_least_there_can_be(tmp_path: Path) -> None:
    told = evaluation()
    least = told.model_copy(
        update={"sweep": None, "chunk_sizes": [], "missed": [], "misses": 0,
                "components": told.components[:3]}
    )  # fmt: skip
    save_report(least, tmp_path / "a.HTML")
    text = html.parse(str(tmp_path / "a.HTML")).getroot().text_content()
    assert "None." in text
    assert "Other weights" not in text


def test_where_no_page_can_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"end its name with \.html"):
        check_report(tmp_path / "report.png")
    with pytest.raises(InvalidInputError, match="There is no folder"):
        check_report(tmp_path / "absent" / "report.html")


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    for name in ("analysis.plots", "analysis.drawing", "evaluation_charts", "evaluation_report"):
        monkeypatch.delitem(sys.modules, f"rotina.knowledge.{name}")
    with pytest.raises(KnowledgeError, match=r"pip install 'rotina\[plots\]'"):
        importlib.import_module("rotina.knowledge.evaluation_report")
