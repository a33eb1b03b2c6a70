"""Charts of an evaluation, as SVG. Needs the extra `plots`: see `rotina.knowledge.analysis`."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rotina.knowledge.analysis.drawing import alt
from rotina.knowledge.evaluation import Evaluation, Swept
from rotina.knowledge.metrics import Estimate

WIDTH = 240
"""Of a panel, in pixels."""
COLOURS = {
    "text": "#f58518", "vectors": "#72b7b2", "fused": "#4c78a8", "reranked": "#b279a2",
}  # fmt: skip
OWN, OTHER = "#4c78a8", "#b8b8b8"
ALONE = "vectors alone"

Row = dict[str, Any]


def draw_components(told: Evaluation) -> str:
    """Each metric of each way to search."""
    rows = [
        _row(component.name, value, panel=metric)
        for component in told.components
        for metric, value in component.all.items()
    ]
    return _svg(_panels(rows, COLOURS, scale=alt.Scale(domain=[0, 1])))


def draw_languages(told: Evaluation) -> str:
    """nDCG of each way to search in each language."""
    rows = [
        _row(component.name, values["ndcg"], panel=language)
        for component in told.components
        for language, values in component.languages.items()
    ]
    return _svg(_panels(rows, COLOURS, scale=alt.Scale(domain=[0, 1])))


def draw_lead(told: Evaluation) -> str:
    """How far the fused search is ahead of each other."""
    rows = [
        _row(component.name, value, panel=metric)
        for component in told.components
        for metric, value in component.behind_fused.items()
    ]
    return _svg(_panels(rows, COLOURS, scale=_around_zero(rows), zero=True))


def draw_sizes(told: Evaluation) -> str:
    """The fused search in chunks of other sizes, beside the collection's own."""
    fused = next(each for each in told.components if each.name == "fused")
    sizes: dict[int, Mapping[str, Estimate]] = {each.limit: each.all for each in told.chunk_sizes}
    own = f"{told.chunk_limit:,} (now)"
    named = {own: fused.all, **{f"{limit:,}": sizes[limit] for limit in sorted(sizes)}}
    rows = [
        _row(name, value, panel=metric)
        for name, values in named.items()
        for metric, value in values.items()
    ]
    colours = {name: OWN if name == own else OTHER for name in named}
    return _svg(_panels(rows, colours, scale=alt.Scale(domain=[0, 1])))


def draw_sweep(swept: Swept) -> str:
    """nDCG by the weight of the vectors, on both halves of the questions."""
    halves = ("chosen on this half", "checked on this half")
    rows = [
        _row(half, value, weight=ALONE if each.vectors is None else f"{each.vectors:g}")
        for each in swept.tried
        for half, value in zip(halves, (each.chosen, each.checked), strict=True)
    ]
    weights = [row["weight"] for row in rows[::2]]
    best = ALONE if swept.vectors is None else f"{swept.vectors:g}"
    data = alt.InlineData(values=rows)
    x = alt.X("weight:N", sort=weights, title="weight of the vectors, beside words at 1",
              axis=alt.Axis(labelAngle=0))  # fmt: skip
    colour = alt.Color(
        "name:N", sort=list(halves), title=None, scale=alt.Scale(range=[OWN, "#f58518"]),
        legend=alt.Legend(orient="top", labelLimit=0, symbolOpacity=1),
    )  # fmt: skip
    chart = alt.Chart(data)
    band = chart.mark_area(opacity=0.15).encode(
        x=x, y=alt.Y("low:Q", title="nDCG", scale=alt.Scale(zero=False)), y2="high:Q", color=colour
    )
    line = chart.mark_line(point=True).encode(x=x, y="mean:Q", color=colour)
    rule = (
        alt.Chart(alt.InlineData(values=[{"weight": best}]))
        .mark_rule(strokeDash=[4, 3], color="#555555")
        .encode(x=x)
    )
    return _svg((band + rule + line).properties(width=3 * WIDTH, height=240))


def _row(name: str, value: Estimate, **more: str) -> Row:
    return {"name": name, "label": f"{value.mean:.2f}", **more, **value.model_dump()}


def _panels(
    rows: Sequence[Row], colours: Mapping[str, str], *, scale: Any, zero: bool = False
) -> Any:
    """A panel for each `panel`, in it a point with its interval for each `name`."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    data = alt.InlineData(values=list(rows))
    y = alt.Y(
        "name:N",
        sort=names,
        title=None,
        axis=alt.Axis(labelLimit=160),
        scale=alt.Scale(padding=0.7),
    )
    colour = alt.Color(
        "name:N", legend=None, scale=alt.Scale(domain=names, range=[colours[n] for n in names])
    )
    chart = alt.Chart(data)
    axis = alt.X("low:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5))
    rule = chart.mark_rule(strokeWidth=3, opacity=0.45).encode(x=axis, x2="high:Q", y=y,
                                                               color=colour)  # fmt: skip
    point = chart.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("mean:Q", scale=scale), y=y, color=colour
    )
    label = chart.mark_text(dy=-10, fontSize=10).encode(
        x=alt.X("mean:Q", scale=scale), y=y, text="label:N"
    )
    layers = [rule, point, label]
    if zero:
        layers.insert(0, chart.mark_rule(strokeDash=[4, 3], color="#bbbbbb").encode(x=alt.datum(0)))
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    layered = alt.layer(*layers, data=data).properties(width=WIDTH, height={"step": 34})
    header = alt.Header(title=None, labelFontSize=13, labelFontWeight="bold")
    facet = alt.Facet("panel:N", sort=panels, title=None, header=header)
    return layered.facet(facet, columns=3)


def _around_zero(rows: Iterable[Row]) -> Any:
    most = max((abs(row[side]) for row in rows for side in ("low", "high")), default=0.0)
    most = max(most, 0.05) * 1.1
    return alt.Scale(domain=[-most, most])


def _svg(chart: Any) -> str:
    out = io.StringIO()
    chart.configure_view(stroke="#dddddd").save(out, format="svg")
    return out.getvalue()
