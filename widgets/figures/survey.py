"""Rows of a survey → plotly figures with still pictures: one feature among its neighbors, what is where as a grid, shares as curves."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from widgets.figures.features import COLORS, DASHES, PLOTLY_DASH
from widgets.figures.figures import StillFigure, empty_figure
from widgets.figures.svg import HALF, HEAT_ORANGE, INK, WHOLE, Line, heat_svg, lines_svg, svg_img
from widgets.marks import legend_html, visible

WIDTH, ROW, RIM, HUB = 660, 19, 96, 26  # pixels: of the picture; a label's row; from the middle to the least alike, and to cosine 1
N_LETTERS = 32  # of a label
RINGS = (0.9, 0.7, 0.5)  # cosines
SHAPES = ("circle", "square", "diamond", "triangle-up", "x")


def plot_neighborhood(rows: pd.DataFrame, title: str) -> StillFigure:
    """A feature in the middle and its neighbors around it (columns sae, feature, cosine, label), the nearer the more alike its decoder
    row; a dictionary takes a sector. Every label has a row of its own, left or right, so that none lies on another."""
    placed, half, rim = _placed(rows)
    height = 2 * half + 40
    names = list(dict.fromkeys(rows["sae"]))
    styles = {name: (COLORS[i % 5], SHAPES[i % 5]) for i, name in enumerate(names)}
    figure = empty_figure(go.Figure(), "Neighborhood")
    figure.update_layout(title_text=f"Neighborhood: {escape(visible(title))[:120]}", height=height + 90, showlegend=True)
    for ring in [ring for ring in RINGS if _radius(ring, rim) < RIM]:
        r = _radius(ring, rim)
        figure.add_shape(type="circle", x0=-r, x1=r, y0=-r, y1=r, line=dict(color="rgba(128,128,128,0.35)", dash="dot", width=1))
        figure.add_annotation(x=0, y=r, text=f"{ring:g}", showarrow=False, font_size=10)
    for name in names:
        mine, (color, shape) = placed[placed["sae"] == name], styles[name]
        marker = dict(color=f"rgb({color})", symbol=shape, size=9)
        hover = [f"{escape(visible(said))}<br>cosine {cosine:.2f}" for said, cosine in zip(mine["said"], mine["cosine"], strict=True)]
        points = go.Scatter(
            x=mine["x"], y=-mine["y"], mode="markers", marker=marker, text=hover, hoverinfo="text", name=escape(visible(name))
        )
        figure.add_trace(points)
    for row in placed.itertuples():
        figure.add_shape(type="line", x0=row.x, y0=-row.y, x1=row.at_x, y1=-row.at_y, line=dict(color="rgba(128,128,128,0.4)", width=1))
        side: Any = dict(xanchor="left" if row.at_x > 0 else "right", xshift=4 if row.at_x > 0 else -4)
        figure.add_annotation(x=row.at_x, y=-row.at_y, text=escape(visible(row.said)), showarrow=False, font_size=11, **side)
    middle = dict(color="#888", symbol="star", size=13)
    figure.add_trace(go.Scatter(x=[0], y=[0], mode="markers", marker=middle, name="the feature", hoverinfo="skip"))
    figure.update_xaxes(visible=False, range=[-WIDTH / 2, WIDTH / 2]).update_yaxes(
        visible=False, range=[-half - 20, half + 20], scaleanchor="x"
    )
    head = f'<div style="font-size:12px">{escape(visible(title))[:120]}</div>'
    figure._still = f"<div>{head}{_neighborhood_svg(placed, styles, half, rim)}</div>"
    return figure


def _placed(rows: pd.DataFrame) -> tuple[pd.DataFrame, float, float]:
    """The rows with what is said of each, the point x, y and where its label begins, at_x, at_y (pixels from the middle, y down); half of
    the height; the least cosine."""
    n_right = (len(rows) + 1) // 2
    n_left, rim = len(rows) - n_right, min(0.9, float(rows["cosine"].min())) if len(rows) else 0.9
    half = max(RIM + 14, ROW * n_right / 2)
    lines = []
    for i, row in enumerate(rows.itertuples()):
        is_right = i < n_right
        place = i if is_right else len(rows) - 1 - i  # clockwise from the top
        n = n_right if is_right else n_left
        at_x, at_y = (1 if is_right else -1) * (RIM + 34.0), (place - (n - 1) / 2) * ROW
        angle = np.pi * (place + 0.5) / n - np.pi / 2
        r = _radius(float(row.cosine), rim)
        name = f"{row.sae} {row.feature}"
        said = f"{row.cosine:.2f} {str(row.label)[:N_LETTERS] or name}"
        lines.append((row.sae, row.cosine, said, (1 if is_right else -1) * r * np.cos(angle), r * np.sin(angle), at_x, at_y))
    return pd.DataFrame(lines, columns=["sae", "cosine", "said", "x", "y", "at_x", "at_y"]), half, rim


def _radius(cosine: float, rim: float) -> float:
    """Pixels from the middle: HUB at cosine 1, RIM at the least."""
    return HUB + (RIM - HUB) * (1 - cosine) / (1 - rim)


def _neighborhood_svg(placed: pd.DataFrame, styles: Mapping[str, tuple[str, str]], half: float, rim: float) -> str:
    left, top, body = WIDTH / 2, half + 8, []
    for ring in [ring for ring in RINGS if _radius(ring, rim) < RIM]:
        r = _radius(ring, rim)
        body.append(
            f'<circle cx="{left}" cy="{top:.1f}" r="{r:.1f}" fill="none" stroke="{INK}" stroke-opacity="0.4" stroke-dasharray="2 3"/>'
        )
        body.append(f'<text x="{left}" y="{top - r - 2:.1f}" text-anchor="middle" fill="{INK}" font-size="9">{ring:g}</text>')
    for row in placed.itertuples():
        x, y, at_x, at_y = left + row.x, top + row.y, left + row.at_x, top + row.at_y
        body.append(f'<path d="M{x:.1f} {y:.1f}L{at_x:.1f} {at_y:.1f}" stroke="{INK}" stroke-opacity="0.45"/>')
        body.append(_mark(x, y, *styles[row.sae]))
        anchor, shift = ("start", 4) if row.at_x > 0 else ("end", -4)
        body.append(
            f'<text x="{at_x + shift:.1f}" y="{at_y + 4:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(visible(row.said))}</text>'
        )
    body.append(f'<circle cx="{left}" cy="{top:.1f}" r="6" fill="{INK}"/>')
    bottom, at = top + half + 16, 20.0
    for name, (color, shape) in styles.items():
        body.append(_mark(at, bottom - 4, color, shape))
        body.append(f'<text x="{at + 9:.1f}" y="{bottom:.1f}" text-anchor="start" fill="{INK}">{escape(visible(name)[:20])}</text>')
        at += 30 + 7 * min(len(name), 20)
    body.append(
        f'<text x="{at:.1f}" y="{bottom:.1f}" text-anchor="start" fill="{INK}">inside: cosine 1; the number is each one’s cosine</text>'
    )
    return svg_img("".join(body), WIDTH, round(2 * half + 34), "one feature and its neighbors by cosine, dictionary by dictionary")


def _mark(x: float, y: float, color: str, shape: str) -> str:
    corners = {"square": "-4 -4 8 0 0 8 -8 0", "diamond": "0 -5.5 5.5 5.5 -5.5 5.5 -5.5 -5.5", "triangle-up": "0 -5 5 9 -10 0"}
    if shape in corners:
        first, *rest = [" ".join(pair) for pair in np.reshape(corners[shape].split(), (-1, 2)).tolist()]
        a, b = (float(part) for part in first.split())
        return f'<path d="M{x + a:.1f} {y + b:.1f}l{" ".join(rest)}z" fill="rgb({color})"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="rgb({color})"/>'


def plot_grid(table: pd.DataFrame, title: str) -> StillFigure:
    """Values from 0 to 1 as a grid: a row for each of the index, a column for each column, the larger the deeper and said as a number."""
    rows, columns = ([visible(str(name))[:40] for name in names] for names in (table.index, table.columns))
    values = table.to_numpy(float)
    figure = empty_figure(go.Figure(), title)
    scale = [[0, "rgba(178,172,168,0)"], [0.15, "rgb(178,172,168)"], [1, f"rgb{HEAT_ORANGE}"]]
    shown, numbers = ([escape(name) for name in names] for names in (rows, columns)), np.round(values, 2)
    y, x = shown
    figure.add_trace(
        go.Heatmap(z=values, x=x, y=y, zmin=0, zmax=1, colorscale=scale, text=numbers, texttemplate="%{text}", showscale=False)
    )
    figure.update_yaxes(autorange="reversed", type="category").update_xaxes(type="category", side="top")
    figure.update_layout(height=110 + 24 * len(rows), margin_l=60 + 7 * max(map(len, rows), default=0))
    figure._still = f'<div><div style="font-size:12px">{escape(title)}</div>{heat_svg(values, rows, columns, title, 1.0)}</div>'
    return figure


def plot_shares(curves: Mapping[str, Mapping[str, pd.DataFrame]], title: str) -> StillFigure:
    """What is measured → kind → rows x, share, low, high (workbench.features.survey.distributions): how many of a kind reach x at least,
    with the interval of that share as thin lines."""
    figure = empty_figure(make_subplots(1, max(len(curves), 1), shared_yaxes=True, horizontal_spacing=0.06), title)
    kinds, stills = list(dict.fromkeys(kind for of in curves.values() for kind in of)), []
    styles = {kind: (COLORS[i % 5], DASHES[i % 5]) for i, kind in enumerate(kinds)}
    for column, (measure, of) in enumerate(curves.items(), start=1):
        lines = []
        for kind, rows in of.items():
            color, dash = styles[kind]
            x = rows["x"].to_numpy(float)
            edges = [Line(x, rows[edge].to_numpy(float), f"{color},0.5", "1 2") for edge in ("low", "high")]
            lines += [Line(x, rows["share"].to_numpy(float), color, dash), *edges]
            band = dict(
                x=[*x, *x[::-1]], y=[*rows["low"], *rows["high"][::-1]], fill="toself", fillcolor=f"rgba({color},0.2)", line_width=0
            )
            figure.add_trace(go.Scatter(**band, hoverinfo="skip", showlegend=False), row=1, col=column)
            style = dict(color=f"rgb({color})", dash=PLOTLY_DASH[dash])
            curve = go.Scatter(x=x, y=rows["share"], mode="lines", line=style, name=escape(visible(kind)), showlegend=column == 1)
            figure.add_trace(curve, row=1, col=column)
        figure.update_xaxes(title_text=f"{escape(visible(measure))}, at least", row=1, col=column)
        says, size = f"share that has at least this {visible(measure)}", HALF if len(curves) > 1 else WHOLE
        stills.append(lines_svg(lines, f"{visible(measure)}, at least", "share", says, size))
    figure.update_yaxes(title_text="share", row=1, col=1).update_layout(showlegend=True)
    figure._still = f"<div>{''.join(stills)}</div>{legend_html(styles)}"
    return figure
