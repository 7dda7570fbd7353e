"""The best run at each compute, between the runs that were tried.

At one compute the loss is a valley over n_features, and for each of these a valley over the learning rate. Its floor: the vertex of a
parabola in logarithms through the lowest run and its two neighbors. Without it optima would jump with the grid's steps; through more runs
it was tried: valleys are steeper on the side of large learning rates and widths, and the floor came out above the lowest run.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Floor:
    """Where a valley is lowest. edge: which end of what was tried the lowest run is at; empty inside."""

    at: float
    loss: float
    edge: str


def valley_floor(tried: np.ndarray, losses: np.ndarray, name: str) -> Floor:
    """Of losses at the values of `name` that were tried, in ascending order."""
    best = int(np.argmin(losses))
    if best in (0, len(tried) - 1):
        which = "only" if len(tried) == 1 else "smallest" if best == 0 else "largest"
        return Floor(float(tried[best]), float(losses[best]), f"the {which} {name} tried, {tried[best]:g}")
    near = slice(best - 1, best + 2)
    x, y = np.log(tried) - np.log(tried[best]), np.log(losses)
    bend, slope, height = np.polyfit(x[near], y[near], 2)
    vertex = -slope / (2 * bend)  # the middle one is the lowest: bend > 0
    return Floor(float(tried[best] * np.exp(vertex)), float(np.exp(height + slope * vertex + bend * vertex**2)), "")


def find_optima(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each compute: loss, n_features, n_steps and lr at the floor of its valley; edge."""
    rows = []
    for compute, same in with_compute(runs).groupby("compute"):
        product = same["n_features"].iloc[0] * same["n_steps"].iloc[0]
        widths, floors = _floors_over_lr(same)
        over_widths = valley_floor(widths, np.array([floor.loss for floor in floors]), "n_features")
        lr = float(np.exp(np.interp(np.log(over_widths.at), np.log(widths), np.log([floor.at for floor in floors]))))
        lr_edge = floors[int(np.argmin([floor.loss for floor in floors]))].edge
        edge = " and ".join(edge for edge in (over_widths.edge, lr_edge) if edge)
        rows.append((compute, over_widths.loss, over_widths.at, product / over_widths.at, lr, edge))
    return pd.DataFrame(rows, columns=["compute", "loss", "n_features", "n_steps", "lr", "edge"])


def best_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """For each size (n_features, n_steps) the run with the best learning rate, with its compute."""
    best = runs.groupby(["n_features", "n_steps"])["loss"].idxmin()
    return with_compute(runs.loc[best])


def with_compute(runs: pd.DataFrame) -> pd.DataFrame:
    """The same runs with what each took: 12 · d_in · batch · n_features · n_steps FLOPs."""
    return runs.assign(compute=12.0 * runs["d_in"] * runs["batch"] * runs["n_features"] * runs["n_steps"])


def _floors_over_lr(runs: pd.DataFrame) -> tuple[np.ndarray, list[Floor]]:
    """(the widths tried, the floor over the learning rate at each). Runs that differ in their seed only are averaged."""
    mean = runs.groupby(["n_features", "lr"], as_index=False)["loss"].mean()
    valleys = {width: rows.sort_values("lr") for width, rows in mean.groupby("n_features")}
    floors = [valley_floor(rows["lr"].to_numpy(), rows["loss"].to_numpy(), "lr") for rows in valleys.values()]
    return np.array(list(valleys), dtype=float), floors
