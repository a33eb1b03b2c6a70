"""An evaluation as one page for whoever decides: it holds all it shows, and no script.

Needs the extra `plots`; importing this raises `KnowledgeError` without it.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lxml import html
from lxml.html import builder as E  # noqa: N812 - its own name

from rotina.knowledge.analysis.plots import check_plot
from rotina.knowledge.evaluation import ChunkSize, Component, Evaluation, Swept
from rotina.knowledge.evaluation_charts import (
    draw_components,
    draw_languages,
    draw_lead,
    draw_sizes,
    draw_sweep,
)
from rotina.knowledge.metrics import Estimate
from rotina.knowledge.misses import Instead, Missed, Wanted

FORMATS = (".html",)
Cell = str | Estimate

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: #222;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; font-size: 1.2rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 0.5rem 0; font-size: 0.93em; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; white-space: nowrap; }
td .dim { font-size: 0.85em; }
.scroll { overflow-x: auto; }
.dim { color: #666; }
.question { margin: 1.2rem 0; padding: 0.2rem 1rem 0.8rem; border: 1px solid #ddd;
  border-radius: 6px; break-inside: avoid; }
.question h3 { margin: 0.6rem 0; font-size: 1rem; }
.passage { margin: 0.4rem 0; padding-left: 0.8rem; border-left: 3px solid #e45756;
  overflow-wrap: anywhere; }
.passage.right { border-color: #54a24b; }
"""
_METRICS = {
    "recall": "share of the answers that are found",
    "ndcg": "the same, worth less the later they come",
    "mrr": "1 over the place of the first one",
    "characters_recall": "share of the answering characters that are found",
    "characters_precision": "share of the found characters that answer",
    "characters_iou": "found and answering characters, over those that are either",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What no page may hold."""


def check_report(path: Path) -> None:
    """That `save_report` can write there. Raises `InvalidInputError`."""
    check_plot(path, FORMATS)


def save_report(told: Evaluation, path: Path) -> None:
    """Write the page. Raises `InvalidInputError` as `check_report` does."""
    check_report(path)
    path.write_bytes(html.tostring(_page(told), doctype="<!doctype html>", encoding="utf-8"))


def _page(told: Evaluation) -> Any:
    title = _text(f"How well {told.collection} is searched")
    head = E.HEAD(
        E.META(charset="utf-8"),
        E.META(name="viewport", content="width=device-width, initial-scale=1"),
        E.META({"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        E.TITLE(title),
        E.STYLE(_STYLE),
    )
    body = E.BODY(E.H1(title), *_summary(told), *_components(told), *_languages(told))
    body.extend([*_lead(told)])
    if told.sweep is not None:
        body.extend(_sweep(told.sweep))
    if told.chunk_sizes:
        body.extend(_sizes(told, told.chunk_sizes))
    body.extend(_missed(told))
    return E.HTML(head, body, lang="en")


def _summary(told: Evaluation) -> list[Any]:
    """What the figures say, in sentences."""
    fused = _named(told, "fused")
    share = _share(fused.all["recall"])
    points = [
        f"Of the answers, {share} are found among the first {told.k} passages.",
        f"{told.misses} of {told.questions} questions find nothing right there.",
    ]
    points += [
        f"{_whose(each.name)} is {_verdict(each.behind_fused['ndcg'])} in nDCG."
        for each in told.components
        if each.name != "fused"
    ]
    if told.sweep is not None:
        weight = _weight(told.sweep.vectors)
        points.append(f"Another weight, {weight}: {_gain(told.sweep.ahead['ndcg'])}.")
    points += [
        f"Chunks of {each.limit:,} characters: {_gain(_turned(each.behind['ndcg']))}."
        for each in told.chunk_sizes
    ]
    asked = f"{told.questions} questions whose answers are known, the first {told.k} passages each."
    return [E.P(asked, E.CLASS("dim")), E.UL(*(E.LI(point) for point in points))]


def _components(told: Evaluation) -> list[Any]:
    rows: list[list[Cell]] = [[each.name, *each.all.values()] for each in told.components]
    meanings = [E.LI(E.B(name), f": {_METRICS[name]}") for name in told.components[0].all]
    return [
        E.H2("Each way to search"),
        E.P(
            "text searches by words, vectors by meaning, fused by both; reranked is fused, put in "
            "order by a reranker. The line through a point holds the mean in 95 of 100 samples of "
            "such questions."
        ),
        _image(draw_components(told), "Metrics of each way to search, with intervals"),
        _table(["search", *told.components[0].all], rows),
        E.UL(*meanings, E.CLASS("dim")),
    ]


def _languages(told: Evaluation) -> list[Any]:
    rows: list[list[Cell]] = [
        [each.name, language, *values.values()]
        for each in told.components
        for language, values in each.languages.items()
    ]
    return [
        E.H2("Each language"),
        E.P("nDCG of the questions in each language; the table has the other metrics."),
        _image(draw_languages(told), "nDCG of each way to search in each language"),
        _table(["search", "questions", *told.components[0].all], rows),
    ]


def _lead(told: Evaluation) -> list[Any]:
    others = [each for each in told.components if each.behind_fused]
    rows: list[list[Cell]] = [[each.name, *each.behind_fused.values()] for each in others]
    return [
        E.H2("How far the fused search is ahead"),
        E.P(
            "Measured question by question. A line that crosses 0 shows no difference; one that "
            "lies to the right of it says that the fused search is better."
        ),
        _image(draw_lead(told), "Lead of the fused search over each other"),
        _table(["fused less", *others[0].behind_fused], rows),
    ]


def _sweep(swept: Swept) -> list[Any]:
    rows: list[list[Cell]] = [
        [_weight(each.vectors), each.chosen, each.checked] for each in swept.tried
    ]
    return [
        E.H2("Other weights"),
        E.P(
            f"Best on one half of the questions: {_weight(swept.vectors)} (dashed). What counts is "
            f"the other half, beside the default weights: {_gain(swept.ahead['ndcg'])}."
        ),
        _image(draw_sweep(swept), "nDCG by the weight of the vectors, on both halves"),
        _table(["weight", "ndcg, half it was chosen on", "ndcg, other half"], rows),
    ]


def _sizes(told: Evaluation, sizes: Sequence[ChunkSize]) -> list[Any]:
    fused = _named(told, "fused").all
    rows: list[list[Cell]] = [[f"{told.chunk_limit:,} (now)", "", str(told.k), *fused.values()]]
    for each in sizes:
        values = (each.all[name] for name in fused)
        rows.append([f"{each.limit:,}", f"{each.chunks:,}", str(each.k), *values])
    return [
        E.H2("Chunks of other sizes"),
        E.P("The fused search, with as many passages of each size as hold as much text."),
        _image(draw_sizes(told), "Metrics of the fused search by the size of chunks"),
        _table(["characters", "chunks", "passages", *fused], rows),
    ]


def _missed(told: Evaluation) -> list[Any]:
    heading = E.H2("Questions that find nothing right")
    if not told.missed:
        return [heading, E.P("None.")]
    which = f"the first {len(told.missed)} of them" if told.misses > len(told.missed) else "all"
    said = f"{told.misses} of {told.questions} ({which}): what answers, and what was found instead."
    return [heading, E.P(said), *map(_question, told.missed)]


def _question(missed: Missed) -> Any:
    by = ", ".join(missed.found_by)
    why = f"Found by {by}, lost by the fused search." if by else "No way to search finds it."
    return E.DIV(
        E.H3(_text(missed.question), lang=missed.language),
        E.P(why, E.CLASS("dim")),
        E.P("Answers:"),
        *map(_wanted, missed.wanted),
        E.P("Found instead:" if missed.instead else "Found instead: nothing."),
        *(_instead(place, each) for place, each in enumerate(missed.instead, 1)),
        E.CLASS("question"),
    )


def _wanted(wanted: Wanted) -> Any:
    where = f"{wanted.uri}, any passage" if wanted.whole else wanted.uri
    return E.DIV(E.B(_text(where)), E.BR(), _text(wanted.text), E.CLASS("passage right"))


def _instead(place: int, found: Instead) -> Any:
    where = f"{place}. {found.uri}" + (f" › {found.section}" if found.section else "")
    scores = f" words {found.text_score:.2f}, vectors {found.vector_score:.2f}"
    return E.DIV(
        E.B(_text(where)),
        E.SPAN(scores, E.CLASS("dim")),
        E.BR(),
        _text(found.text),
        E.CLASS("passage"),
    )


def _image(svg: str, said: str) -> Any:
    packed = base64.b64encode(svg.encode()).decode()
    return E.IMG(src=f"data:image/svg+xml;base64,{packed}", alt=said)


def _table(headings: Iterable[str], rows: Iterable[Iterable[Cell]]) -> Any:
    body = (E.TR(*map(_cell, row)) for row in rows)
    table = E.TABLE(E.TR(*(E.TH(heading) for heading in headings)), *body)
    return E.DIV(table, E.CLASS("scroll"))


def _cell(value: Cell) -> Any:
    if isinstance(value, str):
        return E.TD(value)
    interval = E.SPAN(f"{value.low:.3f} to {value.high:.3f}", E.CLASS("dim"))
    return E.TD(f"{value.mean:.3f}", E.BR(), interval)


def _named(told: Evaluation, name: str) -> Component:
    return next(each for each in told.components if each.name == name)


def _whose(name: str) -> str:
    return {
        "text": "The search by words alone",
        "vectors": "The search by vectors alone",
        "reranked": "The reranked search",
    }[name]


def _verdict(lead: Estimate) -> str:
    """Where another stands beside the fused search, which leads by that."""
    if lead.low > 0:
        return f"behind the fused one by {_interval(lead)}"
    if lead.high < 0:
        return f"ahead of the fused one by {_interval(_turned(lead))}"
    return "neither better nor worse than the fused one, as far as these questions show"


def _gain(ahead: Estimate) -> str:
    if ahead.low > 0:
        return f"better by {_interval(ahead)}"
    if ahead.high < 0:
        return f"worse by {_interval(_turned(ahead))}"
    return f"no difference shown ({_interval(ahead)})"


def _turned(value: Estimate) -> Estimate:
    return Estimate(mean=-value.mean, low=-value.high, high=-value.low)


def _weight(vectors: float | None) -> str:
    if vectors is None:
        return "vectors alone"
    return f"vectors at {vectors:g}" if vectors else "words alone"


def _share(value: Estimate) -> str:
    return f"{value.mean:.0%} ({value.low:.0%} to {value.high:.0%})"


def _interval(value: Estimate) -> str:
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def _text(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
