"""Rows of what acting on features gave → plotly figures, each with a still picture for where scripts do not run."""

import itertools
from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from widgets.figures.figures import StillFigure, empty_figure
from widgets.figures.svg import HALF, Line, heat_svg, lines_svg
from widgets.marks import BLUE, ORANGE, PURPLE, legend_html, visible

COLORS = (ORANGE, PURPLE, BLUE, "0,128,96", "128,128,128")
SOLID, DASHED, DOTTED = "", "6 4", "2 3"
PLOTLY_DASH = {SOLID: "solid", DASHED: "dash", DOTTED: "dot"}
ORDER_STYLE = {"effect": (ORANGE, SOLID), "attribution": (PURPLE, DASHED), "activation": (BLUE, DOTTED), "random": ("128,128,128", DASHED)}
DIVERGING = [[0, f"rgb({PURPLE})"], [0.5, "rgba(128,128,128,0.08)"], [1, f"rgb({ORANGE})"]]
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


def plot_set_curves(table: pd.DataFrame) -> StillFigure:
    """Shares kept by sets alone (left) and lost without them (right) against their size, a line for each order."""
    figure = empty_figure(make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.06), "Sets of features")
    medians = table.groupby(["order", "size"], sort=False)[["kept", "lost"]].median().reset_index()
    stills = []
    for column, (name, title) in enumerate((("kept", "kept by the set alone"), ("lost", "lost without the set")), start=1):
        lines = []
        for order in dict.fromkeys(medians["order"]):
            mine, (color, dash) = medians[medians["order"] == order], ORDER_STYLE[order]
            lines.append(Line(mine["size"].to_numpy(float), mine[name].to_numpy(float), color, dash))
            style = dict(color=f"rgb({color})", dash=PLOTLY_DASH[dash])
            trace = go.Scatter(x=mine["size"], y=mine[name], mode="lines", line=style, name=order, showlegend=column == 1)
            figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(title_text="size of the set", row=1, col=column)
        figure.update_yaxes(title_text=title, row=1, col=column)
        stills.append(lines_svg(lines, "size of the set", f"share {title}", f"share {title} against its size", HALF))
    figure.update_layout(showlegend=True)
    figure._still = f"<div>{''.join(stills)}</div>{legend_html({order: ORDER_STYLE[order] for order in dict.fromkeys(medians['order'])})}"
    return figure


def plot_trace(grids: dict[str, pd.DataFrame], str_tokens: Sequence[str], value: str) -> StillFigure:
    """A heat map for each step: hook points (the deepest on top) × positions. One scale for all, 0 in the middle."""
    panels = make_subplots(len(grids), 1, vertical_spacing=0.3 / len(grids), subplot_titles=[escape(visible(step)) for step in grids])
    figure = empty_figure(panels, f"{value.capitalize()} over layer and position")
    longest = max(float(np.nanmax(np.abs(grid.to_numpy(float)), initial=0.0)) for grid in grids.values()) or 1.0
    stills = []
    for row, (step, grid) in enumerate(grids.items(), start=1):
        columns, rows = _grid_names(grid, str_tokens)
        shown = go.Heatmap(z=grid.to_numpy(float)[::-1], x=columns, y=rows[::-1], zmin=-longest, zmax=longest, colorscale=DIVERGING)
        figure.add_trace(shown.update(showscale=row == 1), row=row, col=1)
        picture = heat_svg(grid.to_numpy(float), rows, [name.split(" ", 1)[1] for name in columns], f"{value} of {visible(step)}", longest)
        stills.append(f'<div style="margin-top:8px"><b>{escape(visible(step))}</b></div>{picture}')
    figure.update_layout(height=60 + len(grids) * (70 + 26 * max(map(len, grids.values()))))
    figure._still = f"<div>{''.join(stills)}</div>"
    return figure


def _grid_names(grid: pd.DataFrame, str_tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Positions as "9 Kobe", told apart where a token comes twice; hook points without what they share."""
    columns = [f"{pos} {visible(str_tokens[int(pos)])}" for pos in grid.columns]
    return columns, [str(name).replace("blocks.", "").replace("hook_", "") for name in grid.index]
