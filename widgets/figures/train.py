"""Metrics of a training run → its curves, with a still picture for where scripts do not run."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from widgets.figures.figures import StillFigure, empty_figure
from widgets.figures.svg import HALF, Line, lines_svg
from widgets.marks import BLUE, ORANGE, PURPLE, legend_html

CURVES = {"loss": "loss", "l0": "active features", "fvu": "variance unexplained", "dead": "share of dead features"}
N_POINTS = 200  # of a curve
STYLES = ((ORANGE, "", "solid"), (PURPLE, "6 4", "dash"), (BLUE, "2 3", "dot"))  # color, dash in SVG and in plotly; then again


def plot_training(table: pd.DataFrame) -> StillFigure:
    """Loss, l0, fvu and share of dead features against the step (columns sae, step, …), a line for each SAE."""
    runs = {f"SAE {sae}": _thinned(rows) for sae, rows in table.groupby("sae")}
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(runs)}
    panels = make_subplots(2, 2, horizontal_spacing=0.1, vertical_spacing=0.16, subplot_titles=list(CURVES.values()))
    figure = empty_figure(panels, "Training")
    stills = []
    for i, (column, title) in enumerate(CURVES.items()):
        lines = []
        for name, rows in runs.items():
            color, dash, plotly_dash = styles[name]
            line = dict(color=f"rgb({color})", dash=plotly_dash)
            figure.add_trace(go.Scatter(x=rows["step"], y=rows[column], mode="lines", line=line, name=name), row=i // 2 + 1, col=i % 2 + 1)
            lines.append(Line(rows["step"].to_numpy(float), rows[column].to_numpy(float), color, dash))
        stills.append(lines_svg(lines, "step", title, f"{title} against the step", HALF))
    figure.update_layout(height=520)
    legend = legend_html({name: (color, dash) for name, (color, dash, _) in styles.items()}) if len(runs) > 1 else ""
    figure._still = f'<div style="max-width:1000px">{"".join(stills)}</div>{legend}'
    return figure


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """At most N_POINTS of the rows, evenly spaced, the last one among them."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, N_POINTS).round().astype(int))]
