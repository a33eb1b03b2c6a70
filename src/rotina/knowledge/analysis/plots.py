"""Plots of what the analyses find: a map of the rows, and the figures behind the finding.

Needs the extra `plots`; importing this raises `KnowledgeError` without it. A map puts rows that
are alike close together (t-SNE, van der Maaten and Hinton 2008); distances between far groups
mean nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from rotina.errors import InvalidInputError
from rotina.knowledge.analysis.anomaly import Anomalies
from rotina.knowledge.analysis.classification import Classified
from rotina.knowledge.analysis.clustering import Clusters
from rotina.knowledge.analysis.drawing import alt, vl_convert
from rotina.knowledge.analysis.matrix import unit_rows
from rotina.knowledge.analysis.recommendation import Recommended
from rotina.knowledge.analysis.rows import Rows, join_rows
from rotina.knowledge.analysis.two_samples import Drift
from rotina.knowledge.analysis.vendi import Diversity

MOST_POINTS = 3000
"""Rows on a map; of more a sample."""
NAMED = 12
"""Marked points that a map names."""
APART = 0.025
"""Of a map's side: nearer points share a name."""
TEXT = 160
"""Characters of a text that a point shows."""
SIZE = 460
"""Of a panel, in pixels."""
FORMATS = (".png", ".svg", ".html")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rotina</title>
<style>body {{ margin: 1.5rem; font-family: system-ui, sans-serif; }} .vega-embed {{ width: 100%; }}
</style>
</head>
<body>
<div id="chart"></div>
<script>{program}</script>
<script>
vegaEmbed("#chart", {chart}, {{mode: "vega-lite", actions: {{export: true, source: false,
  compiled: false, editor: false}}}});
</script>
</body>
</html>
"""


_NONE = "no label"
_BINS = 40
_FEW = 10
"""Rows for which t-SNE makes no sense."""
_PERPLEXITY = 30.0


def check_plot(path: Path, formats: Sequence[str] = FORMATS) -> None:
    """That a file of one of these formats can be written there. Raises `InvalidInputError`."""
    if path.suffix.lower() not in formats:
        raise InvalidInputError(f"{path} cannot be drawn: end its name with {', '.join(formats)}")
    if not path.absolute().parent.is_dir():
        raise InvalidInputError(f"There is no folder {path.absolute().parent} for {path.name}")


def save_plot(chart: alt.TopLevelMixin, path: Path) -> None:
    """Write a chart as PNG, SVG, or a web page that needs nothing else and shows texts on hover.

    Raises `InvalidInputError` for another format or a folder that is missing.
    """
    check_plot(path)
    kind = path.suffix.lower()
    if kind == ".html":
        path.write_text(_page(chart.to_dict()), encoding="utf-8")
    else:
        chart.save(str(path), format=cast("Literal['png', 'svg']", kind[1:]), scale_factor=2)


def plot_search(rows: Rows, question: Rows, found: Mapping[str, str]) -> alt.TopLevelMixin:
    """The question (one row) among the rows; of what was found, best first, id and name."""
    named = [found.get(each, each) for each in rows.ids]
    whole = join_rows(Rows(named, rows.texts, rows.labels, rows.matrix), question)
    asked = len(rows)
    places = {name: row for row, name in enumerate(rows.ids)}
    marked = [places[name] for name in found if name in places]
    groups = ["other"] * asked + ["question"]
    for row in marked:
        groups[row] = "found"
    chart = _map(whole, groups, [asked, *marked], order=("question", "found", "other"))
    unit = unit_rows(whole.matrix)
    scores = [(named[row], float(unit[row] @ unit[asked])) for row in marked]
    return _beside(chart, _bars(scores, "cosine to the question"))


def plot_topics(rows: Rows, found: Clusters) -> alt.TopLevelMixin:
    """The rows by topic, and the silhouettes that the number was chosen by."""
    names = {
        topic.number: f"{topic.number}: {topic.label} ({topic.size})" for topic in found.topics
    }
    groups = [names.get(label, _NONE) for label in found.labels]
    chart = _map(rows, groups, order=(*names.values(), _NONE))
    return _beside(chart, _silhouettes(found) if len(found.tried) > 1 else None)


def plot_classified(rows: Rows, known: Rows, found: Sequence[Classified]) -> alt.TopLevelMixin:
    """What was classified, large, among the labelled rows."""
    whole = join_rows(known, rows)
    groups = [label or _NONE for label in known.labels] + [_NONE] * len(rows)
    marked = [len(known) + each.row for each in found]
    for each in found:
        groups[len(known) + each.row] = each.label or _NONE
    return _beside(_map(whole, groups, marked, order=(*sorted(set(groups) - {_NONE}), _NONE)))


def plot_recommended(
    rows: Rows, like: Sequence[int], unlike: Sequence[int], found: Sequence[Recommended]
) -> alt.TopLevelMixin:
    """What was recommended among all rows, and the scores."""
    groups = ["other"] * len(rows)
    named = {"recommended": [each.row for each in found], "like": like, "unlike": unlike}
    for name, members in named.items():
        for row in members:
            groups[row] = name
    marked = [row for members in named.values() for row in members]
    chart = _map(rows, groups, marked, order=(*named, "other"))
    return _beside(chart, _bars([(rows.ids[each.row], each.score) for each in found], "score"))


def plot_anomalies(rows: Rows, found: Anomalies) -> alt.TopLevelMixin:
    """The rows that stand out, and how the scores lie to the threshold."""
    marked = [each.row for each in found.found]
    out = set(marked)
    groups = ["stands out" if row in out else "other" for row in range(len(rows))]
    chart = _map(rows, groups, marked, order=("stands out", "other"))
    return _beside(chart, _histogram(found.scores, "score", found.threshold))


def plot_drift(before: Rows, after: Rows, found: Drift) -> alt.TopLevelMixin:
    """Both sets on one map, what is newest named."""
    whole = join_rows(before, after)
    groups = ["before"] * len(before) + ["after"] * len(after)
    marked = [len(before) + row for row in found.newest] if found.drifted else []
    said = "they differ" if found.drifted else "no difference shown"
    title = f"{said}: p {found.p_value:.3f}, AUC {found.auc:.2f}"
    return _beside(_map(whole, groups, marked, order=("before", "after"), title=title))


def plot_diversity(rows: Rows, found: Diversity) -> alt.TopLevelMixin:
    """Near copies among the rows, and the cosines of all pairs (of a sample)."""
    marked = list(dict.fromkeys(row for pair in found.pairs for row in (pair.first, pair.second)))
    copies = set(marked)
    groups = ["near copy" if row in copies else "other" for row in range(len(rows))]
    title = f"as varied as {found.vendi:.1f} entirely different rows (Vendi score)"
    chart = _map(rows, groups, marked, order=("near copy", "other"), title=title)
    unit = unit_rows(rows.matrix)[_sample(len(rows), (), MOST_POINTS)]
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return _beside(chart, _histogram(cosines, "cosine of a pair", found.near))


def positions(matrix: npt.ArrayLike, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """(n, 2) places for the rows of a matrix: t-SNE, of few rows the principal components.

    Raises `KnowledgeError` as the analyses do.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - slow to import
    from sklearn.manifold import TSNE  # noqa: PLC0415 - slow to import

    unit = unit_rows(matrix, least=1)
    random = np.random.default_rng(seed)
    # Copies would leave t-SNE without a direction to start in.
    unit = (unit + random.normal(scale=1e-6, size=unit.shape)).astype(np.float32)
    if len(unit) == 1:
        return np.zeros((1, 2))
    parts = min(50, *unit.shape)
    reduced = PCA(parts, random_state=seed, svd_solver="full").fit_transform(unit)
    if len(unit) <= _FEW or parts < 2:  # noqa: PLR2004 - a plane
        return np.pad(reduced, ((0, 0), (0, 2)))[:, :2].astype(np.float64)
    near = min(_PERPLEXITY, (len(unit) - 1) / 3)
    found = TSNE(2, perplexity=near, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(found, dtype=np.float64)


def _map(
    rows: Rows,
    groups: Sequence[str],
    marked: Iterable[int] = (),
    *,
    order: Sequence[str],
    title: str = "",
) -> alt.LayerChart:
    """Points coloured by group; those that are marked are large, the first of them named."""
    points = _points(rows, groups, list(dict.fromkeys(marked)))
    present = [group for group in order if any(point["group"] == group for point in points)]
    data = alt.InlineData(values=points)
    scale = alt.Scale(zero=False, padding=12)
    sides: dict[str, Any] = {
        "x": alt.X("x:Q", axis=None, scale=scale),
        "y": alt.Y("y:Q", axis=None, scale=scale),
    }
    dots = (
        alt.Chart(data)
        .mark_circle()
        .encode(
            **sides,
            color=alt.Color(
                "group:N", sort=present, title=None, scale=_colours(present), legend=_legend()
            ),
            size=alt.condition("datum.marked", alt.value(110), alt.value(28)),
            opacity=alt.condition("datum.marked", alt.value(1), alt.value(0.55)),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("id", "group", "text")],
        )
    )
    names = (
        alt.Chart(data).mark_text(align="left", dx=8, fontSize=10).encode(**sides, text="name:N")
    )
    sample = f"{len(points):,} of {len(rows):,} rows" if len(points) < len(rows) else ""
    heading = alt.Title(title or f"{len(rows):,} rows", subtitle=sample)
    layers: alt.LayerChart = (dots + names).properties(width=SIZE, height=SIZE, title=heading)
    return layers


def _points(rows: Rows, groups: Sequence[str], marked: list[int]) -> list[dict[str, Any]]:
    """What a map shows of each row, or of each in a sample."""
    shown = _sample(len(rows), marked, MOST_POINTS)
    places = positions(rows.matrix[shown])
    named = _named(dict(zip(shown, places, strict=True)), marked)
    large = set(marked)
    points: list[dict[str, Any]] = [
        {
            "x": float(x),
            "y": float(y),
            "id": rows.ids[row],
            "group": groups[row],
            "text": _short(rows.texts[row]),
            "marked": row in large,
            "name": _short(rows.ids[row], 30) if row in named else "",
        }
        for row, (x, y) in zip(shown, places, strict=True)
    ]
    # What is marked lies on top.
    return sorted(points, key=lambda point: bool(point["marked"]))


def _named(places: Mapping[int, npt.NDArray[np.float64]], marked: list[int]) -> set[int]:
    """Marked rows, the first ones, whose names do not lie on each other: copies share a place."""
    sides = np.ptp(np.stack(list(places.values())), axis=0)
    apart = APART * np.where(sides > 0, sides, 1.0)
    named: list[int] = []
    for row in marked:
        if row in places and all(
            (np.abs(places[row] - places[other]) > apart).any() for other in named
        ):
            named.append(row)
    return set(named[:NAMED])


def _colours(present: Sequence[str]) -> Any:
    """Grey for what is in no group."""
    grey = {"other", _NONE}
    many = [
        *("#4c78a8", "#f58518", "#e45756", "#54a24b", "#b279a2", "#eeca3b", "#72b7b2"),
        *("#ff9da6", "#9d755d", "#79706e", "#88d27a", "#9ecae9", "#ffbf79", "#d6a5c9"),
        *("#439894", "#b79a20", "#83bcb6", "#fcbfd2", "#d8b5a5", "#5f6caf"),
    ]
    coloured = [group for group in present if group not in grey]
    chosen = {group: many[place % len(many)] for place, group in enumerate(coloured)}
    return alt.Scale(
        domain=list(present), range=[chosen.get(group, "#c9c9c9") for group in present]
    )


def _legend() -> Any:
    return alt.Legend(orient="bottom", columns=2, labelLimit=300, symbolOpacity=1)


def _bars(scores: Sequence[tuple[str, float]], title: str) -> alt.Chart | None:
    if not scores:
        return None
    # The same name may come twice: the place parts them.
    values = [
        {"place": place, "name": f"{place}. {_short(name, 30)}", "score": score}
        for place, (name, score) in enumerate(scores, start=1)
    ]
    encoded = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar()
        .encode(
            x=alt.X("score:Q", title=title),
            y=alt.Y("name:N", sort=alt.SortField("place"), title=None),
            tooltip=["name:N", "score:Q"],
        )
    )
    bars: alt.Chart = encoded.properties(width=SIZE, height={"step": 22})
    return bars


def _histogram(values: npt.ArrayLike, title: str, threshold: float) -> alt.LayerChart:
    """How many values are how large, counted here: a page need not hold a million of them."""
    numbers = np.asarray(values, dtype=np.float64)
    counts, edges = np.histogram(numbers, bins=_BINS)
    bins = [
        {"from": float(low), "to": float(high), "count": int(count)}
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    bars = (
        alt.Chart(alt.InlineData(values=bins))
        .mark_bar()
        .encode(
            x=alt.X("from:Q", title=title, bin="binned"),
            x2="to:Q",
            y=alt.Y("count:Q", title="rows" if title == "score" else "pairs"),
            tooltip=["from:Q", "to:Q", "count:Q"],
        )
    )
    rule = (
        alt.Chart(alt.InlineData(values=[{"from": threshold}]))
        .mark_rule(color="#e45756", strokeDash=[4, 3])
        .encode(x="from:Q")
    )
    layers: alt.LayerChart = (bars + rule).properties(width=SIZE, height=SIZE)
    return layers


def _silhouettes(found: Clusters) -> alt.Chart:
    tried = [trial.model_dump() for trial in sorted(found.tried, key=lambda trial: trial.k)]
    line: alt.Chart = (
        alt.Chart(alt.InlineData(values=tried))
        .mark_line(point=True)
        .encode(
            x=alt.X("k:Q", title="topics", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("silhouette:Q", scale=alt.Scale(zero=False)),
            tooltip=["k:Q", "silhouette:Q"],
        )
        .properties(width=SIZE, height=SIZE)
    )
    return line


def _beside(*charts: alt.Chart | alt.LayerChart | None) -> alt.TopLevelMixin:
    panels = [chart for chart in charts if chart is not None]
    joined = alt.hconcat(*panels).resolve_scale(color="independent")
    whole: alt.TopLevelMixin = joined.configure_view(stroke="#dddddd")
    return whole


def _sample(rows: int, always: Sequence[int], most: int) -> list[int]:
    """Rows in their order: all, or so many of them, among them those that always are."""
    if rows <= most:
        return list(range(rows))
    kept = list(always)[:most]
    others = np.setdiff1d(np.arange(rows), kept)
    drawn = np.random.default_rng(0).choice(others, most - len(kept), replace=False)
    return sorted([*kept, *(int(row) for row in drawn)])


def _short(text: str, most: int = TEXT) -> str:
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _page(chart: dict[str, Any]) -> str:
    """One page that asks nothing of other hosts.

    Altair's own page ends its script at the first `</script>` in a text, and runs what follows.
    """
    # Whatever a document says stays inside its string.
    inside = json.dumps(chart).replace("<", "\\u003c")
    return _PAGE.format(
        program=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"), chart=inside
    )
