"""Plots of what the analyses find, drawn by `rotina embeddings … --plot` and from Python."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rotina.errors import InvalidInputError, KnowledgeError
from rotina.knowledge.analysis import Rows, cluster, diversity, drift
from rotina.knowledge.analysis.plots import (
    MOST_POINTS,
    NAMED,
    plot_diversity,
    plot_drift,
    plot_search,
    plot_topics,
    positions,
    save_plot,
)
from tests.unit.test_analysis_cli import ROWS, Run, run, write

__all__ = ["run"]

HOSTILE = "</script><script>alert('ação')</script>"


def rows(number: int, text: str = "texto", seed: int = 0, centre: int = 0) -> Rows:
    """Rows around one of the axes."""
    matrix = np.random.default_rng(seed).normal(scale=0.1, size=(number, 8)).astype(np.float32)
    matrix[:, centre] += 1
    ids = [f"{seed}-{row}" for row in range(number)]
    return Rows(ids, [f"{text} {row}" for row in range(number)], [None] * number, matrix)


def points(chart: Any) -> list[dict[str, Any]]:
    """What the map of a chart shows."""
    return on_map(chart.to_dict())


def on_map(told: dict[str, Any]) -> list[dict[str, Any]]:
    (values,) = [each for each in told["datasets"].values() if each and "marked" in each[0]]
    shown: list[dict[str, Any]] = values
    return shown


VERBS: list[tuple[str, ...]] = [
    ("classify", "--texts", "rows.jsonl"),
    ("cluster", "--texts", "rows.jsonl", "-k", "2"),
    ("recommend", "--texts", "rows.jsonl", "--like", "pedido-1", "--unlike", "invoice-1"),
    ("anomalies", "--texts", "rows.jsonl", "--neighbours", "2"),
    ("drift", "--before-texts", "more.jsonl", "--after-texts", "more.jsonl"),
    ("diversity", "--texts", "rows.jsonl"),
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
async def test_each_use_is_drawn(run: Run, tmp_path: Path, verb: tuple[str, ...]) -> None:
    write(tmp_path / "more.jsonl", [{"text": each["text"]} for each in ROWS] * 2)
    done = await run(*verb, "--plot", "plot.png")
    assert done.exit_code == 0, done.output + str(done.exception)
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
        colours = image.convert("RGB").getcolors(1_000_000)
        assert colours is not None
        assert len(colours) > 10, "something is on it"
    done = await run(*verb, "--plot", "plot.html")
    assert done.exit_code == 0, done.output + str(done.exception)
    page = (tmp_path / "plot.html").read_text(encoding="utf-8")
    assert "n\\u00e3o chegou" in page
    assert not re.search(r'(src|href)="?https?:', page), "nothing comes from elsewhere"


async def test_what_cannot_be_drawn_is_refused_before_the_work(run: Run, tmp_path: Path) -> None:
    verb = ("cluster", "--texts", "rows.jsonl", "-k", "2", "--plot")
    for path, message in (("plot.gif", ".png, .svg, .html"), ("absent/plot.png", "no folder")):
        done = await run(*verb, path)
        assert isinstance(done.exception, InvalidInputError)
        assert message in str(done.exception)
        assert not done.stdout
    done = await run("classify", "--texts", "rows.jsonl", "--check", "--plot", "plot.png")
    assert done.exit_code == 2
    assert "nothing for --plot to draw" in done.output


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    monkeypatch.delitem(sys.modules, "rotina.knowledge.analysis.plots")
    monkeypatch.delitem(sys.modules, "rotina.knowledge.analysis.drawing")
    with pytest.raises(KnowledgeError, match=r"pip install 'rotina\[plots\]'"):
        importlib.import_module("rotina.knowledge.analysis.plots")


async def test_a_text_stays_a_text(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [{"text": HOSTILE, "id": str(n)} for n in range(3)])
    done = await run("diversity", "--texts", "rows.jsonl", "--plot", "plot.html")
    assert done.exit_code == 0, done.output + str(done.exception)
    page = (tmp_path / "plot.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2, "the page's own"
    (chart,) = re.findall(r'vegaEmbed\("#chart", (\{.*?\}), \{mode:', page, re.DOTALL)
    assert HOSTILE in {each["text"] for each in on_map(json.loads(chart))}


def test_topics_have_their_terms_and_sizes(tmp_path: Path) -> None:
    first, second = rows(20, "reembolso"), rows(30, "entrega", seed=1, centre=1)
    both = Rows(
        first.ids + second.ids,
        first.texts + second.texts,
        first.labels + second.labels,
        np.concatenate([first.matrix, second.matrix]),
    )
    chart = plot_topics(both, cluster(both.matrix, both.texts, k=2))
    groups = {each["group"] for each in points(chart)}
    assert {re.sub(r".*\((\d+)\)", r"\1", group) for group in groups} == {"30", "20"}
    assert any("reembolso" in group for group in groups)
    save_plot(chart, tmp_path / "topics.SVG")
    assert "reembolso" in (tmp_path / "topics.SVG").read_text(encoding="utf-8")


def test_of_many_rows_a_sample_is_shown_with_all_that_is_marked() -> None:
    many = rows(MOST_POINTS + 500)
    question = Rows(["question"], ["?"], [None], many.matrix[:1])
    wanted = {many.ids[-1]: "terms.pdf", many.ids[7]: "prices.pdf"}
    shown = points(plot_search(many, question, wanted))
    assert len(shown) == MOST_POINTS
    assert {each["id"] for each in shown if each["marked"]} == {
        "question", "terms.pdf", "prices.pdf",
    }  # fmt: skip


def test_drift_names_what_is_new_only_where_there_is_drift() -> None:
    before, after, far = rows(40), rows(40, seed=1), rows(40, seed=2, centre=1)
    same = plot_drift(before, after, drift(before.matrix, after.matrix))
    assert not any(each["name"] for each in points(same))
    other = plot_drift(before, far, drift(before.matrix, far.matrix))
    assert {each["group"] for each in points(other) if each["name"]} == {"after"}


def test_copies_share_a_name() -> None:
    same = np.repeat(rows(30).matrix, 2, axis=0)
    copies = Rows([str(row) for row in range(60)], ["copy"] * 60, [None] * 60, same)
    shown = points(plot_diversity(copies, diversity(same, near=0.999)))
    assert sum(each["marked"] for each in shown) == 60
    named = [(round(each["x"]), round(each["y"])) for each in shown if each["name"]]
    assert 1 < len(named) == len(set(named)) <= NAMED


@pytest.mark.parametrize("number", [1, 2, 3, 11, 12, 40])
def test_any_number_of_rows_has_places(number: int) -> None:
    for matrix in (rows(number).matrix, np.ones((number, 3)), np.ones((number, 1))):
        places = positions(matrix)
        assert places.shape == (number, 2)
        assert np.isfinite(places).all()


def test_alike_rows_lie_together() -> None:
    matrix = np.concatenate([rows(20).matrix, rows(20, seed=1, centre=1).matrix])
    places = positions(matrix)
    first, second = places[:20], places[20:]
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > 2 * max(first.std(axis=0).max(), second.std(axis=0).max())
