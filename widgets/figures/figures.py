"""Rows → plotly figures that can be hovered over, each with a still picture for where scripts do not run.

A plain go.Figure shows nothing in a page exported from a notebook; StillFigure also emits an <img>.
"""

import json
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from widgets.figures.svg import HALF, N_POINTS, scatter_svg, slopes_svg
from widgets.marks import ORANGE, PURPLE, cut, visible

ORDERS = ("activation", "attribution", "effect")


class StillFigure(go.Figure):
    """A plotly figure that carries its own still picture (`_still`, HTML) beside the interactive form."""

    _ipython_display_ = None  # plotly's own would display without the still picture
    _still = ""

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"application/vnd.plotly.v1+json": json.loads(self.to_json()), "text/html": self._still, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"Figure: {self.layout.title.text or 'untitled'}"


def plot_agreement(table: pd.DataFrame) -> StillFigure:
    """Each (feature, position)'s effect against its attribution and against its activation."""
    measured = table.loc[table["effect"].dropna().abs().nlargest(N_POINTS).index]
    figure = empty_figure(make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.06), "Effect against attribution and activation")
    texts, colors, symbols = _hover(measured), _colors(measured["effect"]), np.where(measured["effect"] > 0, "circle", "square")
    stills = []
    for column, by in enumerate(("attribution", "activation"), start=1):
        marker = dict(color=colors, symbol=symbols, size=7, opacity=0.75)
        points = go.Scatter(x=measured[by], y=measured["effect"], mode="markers", marker=marker, text=texts, hoverinfo="text")
        figure.add_trace(points, row=1, col=column)
        if by == "attribution" and len(measured):
            ends = [max(measured[by].min(), measured["effect"].min()), min(measured[by].max(), measured["effect"].max())]
            line = dict(color="rgba(128,128,128,0.8)", dash="dash", width=1)
            figure.add_shape(type="line", x0=ends[0], y0=ends[0], x1=ends[1], y1=ends[1], line=line, row=1, col=column)
        figure.update_xaxes(title_text=by, row=1, col=column)
        stills.append(
            scatter_svg(
                measured[by].to_numpy(float),
                measured["effect"].to_numpy(float),
                by,
                "effect",
                f"effect against {by}",
                has_diagonal=by == "attribution",
                size=HALF,
            )
        )
    figure.update_yaxes(title_text="effect", row=1, col=1)
    figure._still = f"<div>{''.join(stills)}</div>"  # inside of a block, or JupyterLab gives each a line of its own
    return figure


def plot_ranks(top: pd.DataFrame) -> StillFigure:
    """Where the rows of `top` (with activation_rank, attribution_rank, effect_rank) stand in the three orders; rank 1 on top."""
    figure = empty_figure(go.Figure(), f"The {len(top)} largest effects in three orders")
    ranks = top[[f"{by}_rank" for by in ORDERS]].to_numpy(float)
    for line, color, effect, text in zip(ranks, _colors(top["effect"]), top["effect"], _hover(top), strict=True):
        dash = "solid" if effect > 0 else "dash"
        figure.add_trace(
            go.Scatter(x=ORDERS, y=line, mode="lines+markers", line=dict(color=color, dash=dash), text=[text] * 3, hoverinfo="text")
        )
    figure.update_yaxes(type="log", autorange="reversed", title_text="rank", dtick=1)
    rows = top[["label", "feature", "token"]].itertuples(index=False, name=None)
    called = [f"{cut(visible(label), 24) or f'feature {feature}'} · {cut(visible(token).strip(), 10)}" for label, feature, token in rows]
    figure._still = slopes_svg(ranks, top["effect"].to_numpy(float), ORDERS, str(figure.layout.title.text), called=called)
    return figure


def empty_figure(figure: go.Figure, title: str) -> StillFigure:
    """Transparent, so that it sits on light and dark pages alike."""
    gray = dict(gridcolor="rgba(128,128,128,0.2)", zerolinecolor="rgba(128,128,128,0.6)")
    clear = dict(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font_color="#888", showlegend=False)
    figure.update_layout(title_text=title, height=360, margin=dict(l=50, r=20, t=50, b=40), template="none", **clear)
    figure.update_xaxes(**gray).update_yaxes(**gray)
    still = StillFigure(figure)
    still._grid_ref = figure._grid_ref  # where make_subplots keeps rows and columns; a copy does not carry it
    return still


def _colors(effects: pd.Series) -> list[str]:
    return [f"rgb({ORANGE if effect > 0 else PURPLE})" for effect in effects]


def _hover(rows: pd.DataFrame) -> list[str]:
    """Plotly reads a little HTML in hover texts: what comes from tokens and labels is escaped."""
    return [
        f"{escape(visible(row.label)) or 'feature'} {row.feature}<br>at {row.pos} “{escape(visible(row.token))}”<br>"
        f"effect {row.effect:+.3f}, attribution {row.attribution:+.3f}, activation {row.activation:.3f}"
        for row in rows.itertuples()
    ]
