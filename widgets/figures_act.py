"""Rows of what acting on features gave → plotly figures, each with a still picture for where scripts do not run."""

import itertools
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from widgets.figures import StillFigure, empty_figure
from widgets.marks import BLUE, ORANGE, PURPLE, legend_html, visible
from widgets.svg import Line, lines_svg

COLORS = (ORANGE, PURPLE, BLUE, "0,128,96", "128,128,128")
SOLID, DASHED, DOTTED = "", "6 4", "2 3"
PLOTLY_DASH = {SOLID: "solid", DASHED: "dash", DOTTED: "dot"}
KIND_DASH = {"features": SOLID, "unsteered": DASHED, "vector": DOTTED}


def plot_dose(dose: pd.DataFrame) -> StillFigure:
    """Responses (the columns that are no setting) against strength, a color each; unsteered and steering vector as level lines."""
    responses = [str(name) for name in dose if name not in ("kind", "name", "strength", "standard_error")]
    steered = dose[dose["kind"] == "features"].sort_values("strength")
    ends = np.array([steered["strength"].min(), steered["strength"].max()], dtype=float)
    lines = {}
    for name, color in zip(responses, itertools.cycle(COLORS), strict=False):
        lines[name] = Line(steered["strength"].to_numpy(float), steered[name].to_numpy(float), color)
        for row in dose[dose["kind"] != "features"].to_dict("records"):
            lines[f"{name}, {row['name']}"] = Line(ends, np.repeat(row[name], 2), color, KIND_DASH[row["kind"]])
    return plot_lines(lines, "strength", "response", "Response against strength")


def plot_lines(lines: dict[str, Line], x_name: str, y_name: str, title: str) -> StillFigure:
    """Named lines, told apart by color and dash; the still picture carries the same legend."""
    figure = empty_figure(go.Figure(), title)
    for name, line in lines.items():
        style = dict(color=f"rgb({line.color})", dash=PLOTLY_DASH[line.dash])
        mode = "lines" if line.dash else "lines+markers"
        figure.add_trace(go.Scatter(x=line.x, y=line.y, mode=mode, line=style, name=escape(visible(name))))
    figure.update_xaxes(title_text=x_name).update_yaxes(title_text=y_name).update_layout(showlegend=True)
    legend = legend_html({name: (line.color, line.dash) for name, line in lines.items()})
    figure._still = f"<div>{lines_svg(list(lines.values()), x_name, y_name, title)}{legend}</div>"
    return figure
