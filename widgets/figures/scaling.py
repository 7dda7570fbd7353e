"""Runs of a scaling sweep and the laws through their optima → figures, each with a still picture for where scripts do not run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from widgets.figures.figures import StillFigure, empty_figure
from widgets.figures.svg import HALF, WHOLE
from widgets.figures.svg_log import Curve, loglog_svg
from widgets.marks import BLUE, ORANGE, PURPLE

COMPUTE = "compute (FLOPs)"
NAMES = {"loss": "loss at λ = 5", "n_features": "features", "n_steps": "steps", "lr": "learning rate"}
SMALL = "font-size:12px;opacity:0.7"


def plot_loss(curves: pd.DataFrame, optima: pd.DataFrame, law: Any) -> StillFigure:
    """Loss against compute, one curve for each n_features (columns n_features, compute, loss), the optima and their PowerLaw."""
    stills = [Curve(*_xy(rows, "loss"), BLUE, "line", f"{width:,}") for width, rows in curves.groupby("n_features")]
    stills += _optima(optima, "loss", ORANGE) + _fit(law, optima, PURPLE)
    return _figure(stills, "Loss against compute", NAMES["loss"], law, size=(WHOLE[0], 400))


def plot_optima(optima: pd.DataFrame, laws: Sequence[Any], title: str) -> StillFigure:
    """What is best at each compute, and the PowerLaws of it; a panel each."""
    panels, size = [], HALF if len(laws) > 1 else WHOLE
    for law in laws:
        panels.append(_figure(_optima(optima, law.name, ORANGE) + _fit(law, optima, PURPLE), title, NAMES[law.name], law, size))
    if len(panels) == 1:
        return panels[0]
    from plotly.subplots import make_subplots

    subplots = make_subplots(1, len(panels), horizontal_spacing=0.1, subplot_titles=[_title(law) for law in laws])
    figure = empty_figure(subplots, title)
    for column, panel in enumerate(panels, start=1):
        figure.add_traces(list(panel.data), rows=[1] * len(panel.data), cols=[column] * len(panel.data))
        figure.update_xaxes(type="log", title_text=COMPUTE, row=1, col=column)
        figure.update_yaxes(type="log", title_text=NAMES[laws[column - 1].name], row=1, col=column)
    note = _note([mark for law in laws for mark in _optima(optima, law.name, ORANGE)])
    pictures = "".join(panel._still.replace(note, "") for panel in panels)
    figure._still = f"<div>{pictures}</div>{note}"  # inside of a block, or JupyterLab gives each a line of its own
    return figure


def _figure(curves: Sequence[Curve], title: str, y_name: str, law: Any, size: tuple[int, int] = WHOLE) -> StillFigure:
    figure = empty_figure(go.Figure(), f"{title}: {_title(law)}")
    for curve in curves:
        look = dict(line=dict(color=f"rgb({curve.color})", dash="dash" if curve.style == "dash" else "solid"))
        if curve.style in ("dots", "rings"):
            look = dict(marker=dict(color=f"rgb({curve.color})", size=9, symbol="circle" if curve.style == "dots" else "circle-open"))
        mode = "markers" if curve.style in ("dots", "rings") else "lines"
        name = (
            f"{curve.name} features" if curve.name else {"dots": "optimum", "rings": "optimum at the grid's edge"}.get(curve.style, "fit")
        )
        figure.add_trace(
            go.Scatter(x=curve.x, y=curve.y, mode=mode, name=name, hovertemplate=f"{name}<br>%{{x:.2e}} FLOPs, %{{y:.4g}}", **look)
        )
    figure.update_xaxes(type="log", title_text=COMPUTE).update_yaxes(type="log", title_text=y_name)
    figure._still = loglog_svg(curves, COMPUTE, y_name, str(figure.layout.title.text), size) + _note(curves)
    return figure


def _note(curves: Sequence[Curve]) -> str:
    """What the marks are, of those that are there."""
    widths = "Blue: a number of features each, trained longer and longer. " if any(curve.name for curve in curves) else ""
    rings = "; rings: optima at the edge of the grid, not in the fit" if any(curve.style == "rings" for curve in curves) else ""
    says = f"{widths}Orange: the optimum at each compute{rings}. Purple: the fit through the optima, dashed its 90 % interval."
    return f'<div style="{SMALL}">{says}</div>'


def _title(law: Any) -> str:
    e = law.exponent
    return f"{NAMES[law.name]} ∝ compute^{e.value:.2f} ({e.low:.2f} to {e.high:.2f})".replace("-", "−")


def _xy(rows: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = rows.sort_values("compute")
    return rows["compute"].to_numpy(float), rows[name].to_numpy(float)


def _optima(optima: pd.DataFrame, name: str, color: str) -> list[Curve]:
    """Those inside the grid as dots, those at its edge as rings."""
    is_inside = optima["edge"] == ""
    parts = [Curve(*_xy(optima[is_inside], name), color, "dots"), Curve(*_xy(optima[~is_inside], name), color, "rings")]
    return [part for part in parts if len(part.x)]


def _fit(law: Any, optima: pd.DataFrame, color: str) -> list[Curve]:
    """The law and the ends of its interval over all the compute that was swept."""
    compute = np.geomspace(optima["compute"].min(), optima["compute"].max(), 40)
    at = [law.at(value) for value in compute]
    styles = {"value": "line", "low": "dash", "high": "dash"}
    return [Curve(compute, np.array([getattr(interval, end) for interval in at]), color, style) for end, style in styles.items()]
