"""Rows of what features are → plotly figures, each with a still picture for where scripts do not run: how specific, which concepts have
one, how like neurons."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from widgets.figures.figures import StillFigure, empty_figure
from widgets.figures.svg import HALF, INK, WHOLE, Line, lines_svg, scatter_svg, svg_img
from widgets.marks import BLUE, ORANGE, PURPLE, legend_html, number, visible

RATINGS = {"clean": "3 cleanly what it is", "near": "2 near it", "vague": "1 in the text", "irrelevant": "0 not in the text"}
COUNTS = "140,110,90"  # not a rating's color
RATING_COLORS = dict(zip(RATINGS, (BLUE, "120,170,210", "175,175,175", ORANGE), strict=True))
COLORS = (ORANGE, PURPLE, BLUE, "0,128,96", "128,128,128")
DASHES: tuple[str, ...] = ("", "6 4", "2 3", "8 3 2 3", "1 2")
PLOTLY_DASH: dict[str, str] = dict(zip(DASHES, ("solid", "dash", "dot", "dashdot", "dot"), strict=True))


def plot_specificity(table: pd.DataFrame, title: str) -> StillFigure:
    """Share of each rating against the level of activation (columns low, high, n_active and RATINGS), and how often each level occurs."""
    rows = table.iloc[::-1]
    names = [f"{number(row.low, False)} – {number(row.high, False)}" for row in rows.itertuples()]
    figure = empty_figure(make_subplots(2, 1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.06), "Specificity")
    figure.update_layout(title_text=f"Specificity: {escape(visible(title))[:120]}", barmode="stack", showlegend=True)
    for rating, name in RATINGS.items():
        color = f"rgb({RATING_COLORS[rating]})"
        hover = f"{name}: %{{y:.0%}} at %{{x}}<extra></extra>"
        figure.add_trace(go.Bar(x=names, y=rows[rating], name=name, marker_color=color, hovertemplate=hover), row=1, col=1)
    counts = go.Bar(x=names, y=rows["n_active"], marker_color=f"rgb({COUNTS})", showlegend=False, hovertemplate="%{y:,}<extra></extra>")
    figure.add_trace(counts, row=2, col=1)
    figure.update_yaxes(title_text="share", row=1, col=1).update_yaxes(title_text="activations", type="log", row=2, col=1)
    figure.update_xaxes(title_text="activation", row=2, col=1)
    legend = _boxes_html({name: RATING_COLORS[rating] for rating, name in RATINGS.items()} | {"how often": COUNTS})
    figure._still = f'<div><div style="font-size:12px">{escape(visible(title))[:120]}</div>{_stacked_svg(rows, names)}{legend}</div>'
    return figure


def _stacked_svg(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """Stacked shares above, counts on a log scale below."""
    (wide, high), left, top = WHOLE, 42, 22
    bottom, low = high - 70, high - 18
    step, body = (wide - left - 10) / max(len(rows), 1), []
    tallest = np.log1p(rows["n_active"].max())
    for i, row in enumerate(rows.to_dict("records")):
        x, y, width = left + i * step, float(bottom), max(step - 2, 1)
        for rating in RATINGS:
            height = row[rating] * (bottom - top)
            y -= height
            body.append(_bar(x, y, width, height, RATING_COLORS[rating], f"{names[i]}: {row[rating]:.0%} {RATINGS[rating]}"))
        height = 36 * np.log1p(row["n_active"]) / tallest
        body.append(_bar(x, low - height, width, height, COUNTS, f"{names[i]}: {row['n_active']:,}"))
    for share in (0, 0.5, 1):
        body.append(_text(left - 6, bottom - share * (bottom - top) + 4, f"{share:g}", "end"))
    body.append(_text(left - 36, 10, "share of the activations at this level, by rating", "start"))
    body += [_text(left - 6, low - 12, "how", "end"), _text(left - 6, low, "often", "end")]
    body += [_text(left, high - 4, "0", "start"), _text(wide - 10, high - 4, f"activation {names[-1].split(' – ')[1]}", "end")]
    return svg_img("".join(body), wide, high, "share of each rating against the level of activation")


def _boxes_html(colors: Mapping[str, str]) -> str:
    """Names of bars, each with a box of its color."""
    box = "display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px;vertical-align:-1px"
    spans = [
        f'<span style="margin-right:14px;white-space:nowrap"><span style="{box};background-color:rgb({color})"></span>{escape(name)}</span>'
        for name, color in colors.items()
    ]
    return f'<div style="max-width:640px;font-size:12px">{"".join(spans)}</div>'


def plot_completeness(points: pd.DataFrame, curves: Mapping[str, tuple[float, float, float]]) -> StillFigure:
    """P(a concept has a feature) against its frequency, one curve a dictionary; left as it is, right times the number of alive features.

    points: columns dictionary, frequency, share (of the concepts about that frequent that have one), n. curves: dictionary → (intercept,
    slope, alive) of the sigmoid in log10 frequency.
    """
    figure = empty_figure(make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.06), "Which concepts have a feature")
    x_names, stills = ("log10 of frequency", "log10 of frequency × alive features"), []
    styles = {name: (COLORS[i % 5], DASHES[i % 5]) for i, name in enumerate(curves)}
    for column, x_name in enumerate(x_names, start=1):
        lines, dots = [], []
        for name, (intercept, slope, alive) in curves.items():
            mine, (color, dash), shift = points[points["dictionary"] == name], styles[name], np.log10(alive) * (column == 2)
            at = np.linspace(np.log10(points["frequency"].min()), np.log10(points["frequency"].max()), 60)
            lines.append(Line(at + shift, 1 / (1 + np.exp(-(intercept + slope * at))), color, dash))
            dots.append((np.log10(mine["frequency"].to_numpy(float)) + shift, mine["share"].to_numpy(float), color))
            style, shown = dict(color=f"rgb({color})", dash=PLOTLY_DASH[dash]), escape(visible(name))
            curve = go.Scatter(x=lines[-1].x, y=lines[-1].y, mode="lines", line=style, name=shown, showlegend=column == 1)
            hover = [f"{shown}: {row.share:.0%} of {row.n} concepts" for row in mine.itertuples()]
            marks = go.Scatter(x=dots[-1][0], y=dots[-1][1], mode="markers", marker_color=style["color"], text=hover, hoverinfo="text")
            figure.add_traces([curve, marks.update(showlegend=False)], rows=[1, 1], cols=[column, column])
        figure.update_xaxes(title_text=x_name, row=1, col=column)
        stills.append(_curves_svg(lines, dots, x_name, "share that has a feature"))
    figure.update_yaxes(title_text="share that has a feature", row=1, col=1).update_layout(showlegend=True)
    figure._still = f"<div>{''.join(stills)}</div>{legend_html(styles)}"
    return figure


def plot_correlations(values: Mapping[str, np.ndarray], bound: float) -> StillFigure:
    """The share of features whose largest |r| with any neuron is at most r; one curve a dictionary, a line at `bound`."""
    figure, lines = empty_figure(go.Figure(), "Features and neurons"), []
    styles = {name: (COLORS[i % 5], DASHES[i % 5]) for i, name in enumerate(values)}
    for name, largest in values.items():
        x = np.sort(np.asarray(largest, dtype=float))
        y = np.arange(1, len(x) + 1) / len(x)
        kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), 200)).astype(int))
        color, dash = styles[name]
        lines.append(Line(x[kept], y[kept], color, dash))
        style = dict(color=f"rgb({color})", dash=PLOTLY_DASH[dash])
        figure.add_trace(go.Scatter(x=x[kept], y=y[kept], mode="lines", line=style, name=escape(visible(name))))
    lines.append(Line(np.array([bound, bound]), np.array([0.0, 1.0]), "128,128,128", "2 3"))
    figure.add_trace(
        go.Scatter(x=[bound, bound], y=[0, 1], mode="lines", line=dict(color="rgb(128,128,128)", dash="dot"), showlegend=False)
    )
    x_name, y_name = "largest |r| with a neuron", "share of features"
    figure.update_xaxes(title_text=x_name).update_yaxes(title_text=y_name).update_layout(showlegend=True)
    figure._still = (
        f"<div>{lines_svg(lines, x_name, y_name, 'share of features against the largest correlation')}{legend_html(styles)}</div>"
    )
    return figure


def plot_probes(table: pd.DataFrame) -> StillFigure:
    """AUROC of each classifier (columns reads, auroc, low, high; maybe shifted, shifted_low, shifted_high) with its interval."""
    figure, names = empty_figure(go.Figure(), "Which classifier tells them apart"), table["reads"].tolist()
    kinds = [("auroc", "low", "high", "texts like those learned from", ORANGE)]
    kinds += [("shifted", "shifted_low", "shifted_high", "shifted texts", PURPLE)] if "shifted" in table else []
    for column, low, high, name, color in kinds:
        error = dict(type="data", symmetric=False, array=table[high] - table[column], arrayminus=table[column] - table[low])
        marker = dict(color=f"rgb({color})", symbol="circle" if color == ORANGE else "square", size=9)
        figure.add_trace(go.Scatter(x=table[column], y=names, error_x=error, mode="markers", marker=marker, name=name))
    figure.update_yaxes(autorange="reversed").update_xaxes(title_text="AUROC").update_layout(showlegend=True)
    legend = _boxes_html({name: color for *_, name, color in kinds})
    figure._still = f"<div>{_intervals_svg(table, kinds)}{legend if len(kinds) > 1 else ''}</div>"
    return figure


def plot_scores(table: pd.DataFrame) -> StillFigure:
    """Output score against input score (columns feature, label, input, output), a point a feature."""
    x_name, y_name = "input score: how well it reads it", "output score: how much it writes it"
    figure = empty_figure(go.Figure(), "What features read and what they write")
    said = [f"{f:,} {escape(visible(str(label))[:80])}" for f, label in zip(table["feature"], table["label"], strict=True)]
    marker = dict(color=f"rgb({BLUE})", size=6, opacity=0.6)
    figure.add_trace(
        go.Scatter(x=table["input"], y=table["output"], text=said, hovertemplate="%{text}<extra></extra>", mode="markers", marker=marker)
    )
    figure.update_xaxes(title_text=x_name).update_yaxes(title_text=y_name)
    still = scatter_svg(table["input"].to_numpy(float), table["output"].to_numpy(float), x_name, y_name, f"{y_name} against {x_name}")
    figure._still = f"<div>{still}</div>"
    return figure


def _intervals_svg(table: pd.DataFrame, kinds: Sequence[tuple[str, str, str, str, str]]) -> str:
    """A row a classifier: a point and its interval for each kind of texts; the axis begins at chance or below what is lowest."""
    left, right, step = 104, WHOLE[0] - 20, 26
    first = min(0.5, np.floor(10 * min(table[low].min() for _, low, *_ in kinds)) / 10)
    bottom = 8 + step * len(table)

    def at(value: float) -> float:
        return left + (value - first) / (1 - first) * (right - left)

    body = []
    for tick in np.arange(round(10 * first), 11) / 10:
        x = at(tick)
        body.append(f'<line x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{bottom}" stroke="{INK}" stroke-opacity="0.3"/>')
        body.append(_text(x, bottom + 14, f"{tick:.1f}", "middle"))
    for i, row in enumerate(table.to_dict("records")):
        body.append(_text(left - 8, 8 + step * (i + 0.5) + 4, row["reads"], "end"))
        for n, (column, low, high, _, color) in enumerate(kinds):
            y = 8 + step * (i + 0.5) + (n - (len(kinds) - 1) / 2) * 9
            line = f'x1="{at(row[low]):.1f}" y1="{y:.1f}" x2="{at(row[high]):.1f}" y2="{y:.1f}"'
            body.append(f'<line {line} stroke="rgb({color})" stroke-width="3" stroke-opacity="0.6"/>')
            x = at(row[column])
            is_round = color == ORANGE
            shape = (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"' if is_round else f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"'
            )
            body.append(f'{shape} fill="rgb({color})"><title>{row[column]:.3f}</title></{"circle" if is_round else "rect"}>')
    body.append(_text(right, bottom + 30, "AUROC", "end"))
    return svg_img("".join(body), right + 20, bottom + 36, "AUROC of each classifier with its interval")


def _curves_svg(lines: Sequence[Line], dots: Sequence[tuple[np.ndarray, np.ndarray, str]], x_name: str, y_name: str) -> str:
    """Curves and points between 0 and 1 over whole powers of ten."""
    every = np.concatenate([line.x for line in lines])
    first = int(np.floor(every.min()))
    last = max(int(np.ceil(every.max())), first + 1)
    (wide, high), left, top = HALF, 42, 22
    right, bottom = wide - 10, high - 34

    def at(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return left + (x - first) / (last - first) * (right - left), bottom - y * (bottom - top)

    body = [_text(left - 6, bottom - share * (bottom - top) + 4, f"{share:g}", "end") for share in (0, 0.5, 1)]
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - top)
        body.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{INK}" stroke-opacity="{0.7 if not share else 0.25}"/>')
    for power in range(first, last + 1):
        x = left + (power - first) / (last - first) * (right - left)
        body.append(_text(x, bottom + 14, f"{power}".replace("-", "−"), "middle"))
    for x, y, color, dash in lines:
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(*at(x, y), strict=True))
        body.append(f'<path d="M{path}" fill="none" stroke="rgb({color})" stroke-width="2" stroke-dasharray="{dash}"/>')
    for x, y, color in dots:
        body += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="rgb({color})"/>' for a, b in zip(*at(x, y), strict=True)]
    body += [_text(left - 6, 10, y_name, "start"), _text(right, high - 4, x_name, "end")]
    return svg_img("".join(body), wide, high, f"{y_name} against {x_name}")


def _bar(x: float, y: float, width: float, height: float, color: str, title: str, opacity: float = 0.9) -> str:
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="rgb({color})" fill-opacity="{opacity}">'
    return f"{shape}<title>{escape(title)}</title></rect>" if height > 0 else ""


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'
