"""Scaling laws: train many SAEs on the same activations, find the best at each compute, fit how loss and settings move with compute.

    compute = 12 · batch · d_in · n_features · n_steps     FLOPs; method of Scaling Monosemanticity, "Scaling laws"
    loss, n_features, n_steps, lr at the optimum           each a power law of compute

`sweep` trains what the file of runs does not hold yet; `ScalingLaws` reads the file. At one compute the loss is a valley over n_features,
and at each of these over the learning rate: a parabola in logarithms through the lowest runs gives its floor. Where the lowest run is the
last one tried on a side, the floor lies beyond the grid: such an optimum is marked, drawn and left out of the fits.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm.auto import tqdm

from workbench.files import PATIENCE, checked_file, locked, parse_json, read_text, write_text
from workbench.sae.scaling.optima import best_runs, find_optima
from workbench.sae.scaling.power_law import FEWEST, PowerLaw
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.train import Stream, train_many

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LAWS = ("loss", "n_features", "n_steps", "lr")
RUN = ("n_features", "n_steps", "lr", "seed")  # what tells the runs of a file apart
SOURCE = ("model_name", "hook_name", "d_in", "batch", "l1")  # what they have in common
MEASURED = ("loss", "fvu", "l0", "dead")
MOST = 2**53  # from here on a float64 is no whole number's own
BENT = 0.02  # twice the scatter of the atlas's losses around their law: a bend worth a word


@dataclass(frozen=True)
class Grid:
    """Every width at every product n_features · n_steps that it divides, at every learning rate."""

    n_features: Sequence[int]
    feature_steps: Sequence[int]  # n_features · n_steps: lines of equal compute
    lrs: Sequence[float]
    n_steps: tuple[int, int] = (50, 50_000)  # fewest and most
    l1: float = 5.0  # the paper's proxy is the loss at λ = 5
    seed: int = 0

    def configs(self) -> list[TrainConfig]:
        """The runs, short ones first. Raises ValueError where there are none."""
        sizes = [(width, product // width) for product in self.feature_steps for width in self.n_features if product % width == 0]
        sizes = [(width, steps) for width, steps in sizes if self.n_steps[0] <= steps <= self.n_steps[1]]
        if not sizes or not self.lrs:
            raise ValueError(f"no run of this grid has {self.n_steps[0]:,} to {self.n_steps[1]:,} steps: {self}")
        configs = [TrainConfig(width, steps, lr, self.l1, seed=self.seed) for width, steps in sizes for lr in self.lrs]
        return sorted(configs, key=lambda cfg: (cfg.n_steps, cfg.d_sae, cfg.lr))


def sweep(new_stream: Callable[[], Stream], grid: Grid, file: str | Path, *, at_once: int = 6, progress: bool = True) -> "ScalingLaws":
    """Train the runs of `grid` that `file` does not hold yet and add a row for each: JSON lines. The same call goes on after a stop.

    new_stream    gives the activations from their beginning: every run learns from the same ones in the same order
    at_once       runs that share one pass over the activations; a stop loses no more than these
    """
    file = checked_file(file)
    rows = read_rows(file) if file.exists() else []
    stream = new_stream()
    done = {tuple(row[name] for name in RUN) for row in rows}
    missing = [cfg for cfg in grid.configs() if (cfg.d_sae, cfg.n_steps, cfg.lr, cfg.seed) not in done]
    groups = [missing[first : first + at_once] for first in range(0, len(missing), at_once)]
    for group in tqdm(groups, desc="sweep", unit="pass", disable=not progress):
        saes = train_many(new_stream(), group, progress=False)
        add_rows([run_row(sae.cfg.metadata, stream) for sae in saes], file)
    return ScalingLaws.read(file)


def add_rows(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Behind those that are in the file by now: another process may be sweeping into it."""
    with locked(file.absolute().parent, PATIENCE):
        known = read_rows(file) if file.exists() else []
        done = {tuple(row[name] for name in RUN) for row in known}
        known += [row for row in rows if tuple(row[name] for name in RUN) not in done]
        check_source(known, file)
        write_text(file, "".join(json.dumps(row) + "\n" for row in known))


def run_row(metadata: dict[str, Any], stream: Stream) -> dict[str, Any]:
    """A trained SAE as a row of the file."""
    cfg = metadata["training"]
    source = (stream.model_name, stream.hook_name, stream.d_in, metadata["n_tokens"] // cfg["n_steps"], cfg["l1"])
    run = (cfg["d_sae"], cfg["n_steps"], cfg["lr"], cfg["seed"])
    return dict(zip(RUN, run, strict=True)) | dict(zip(SOURCE, source, strict=True)) | {name: metadata[name] for name in MEASURED}


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Raises ValueError, naming the line, for what is not a row of a sweep."""
    if not file.is_file():
        raise ValueError(f"{file} is no file: expected the JSON lines of a sweep (workbench scaling)")
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        row = parse_json(line, f"{file}, line {number},")
        if not isinstance(row, dict) or (lacking := [name for name in (*RUN, *SOURCE, *MEASURED) if name not in row]):
            raise ValueError(
                f"{file}, line {number}, is no run of a sweep" + (f": it lacks {', '.join(lacking)}" if isinstance(row, dict) else "")
            )
        for name in (*RUN, *SOURCE, *MEASURED):
            if expected := _expected(name, row[name]):
                raise ValueError(f"{file}, line {number}, says {name} {row[name]!r}; expected {expected}")
        rows.append(row)
    check_source(rows, file)
    return rows


def _expected(name: str, value: Any) -> str:
    """What should stand there instead; nothing where that is what it is. Logarithms are taken of most of these."""
    if name in ("model_name", "hook_name"):
        return "" if isinstance(value, str) else "a name"
    if isinstance(value, int) and abs(value) >= MOST:
        return f"a number below {MOST:,}"
    if name in ("n_features", "n_steps", "d_in", "batch", "seed"):
        return "" if type(value) is int and value >= (name != "seed") else "a whole number above 0" if name != "seed" else "a whole number"
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    is_above = name in ("loss", "lr")
    return "" if is_number and (value > 0 if is_above else value >= 0) else f"a number {'above 0' if is_above else 'of 0 or more'}"


def check_source(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Raises ValueError for runs of different models, hook points or texts: their losses cannot be compared."""
    for name in SOURCE:
        values = sorted({str(row[name]) for row in rows})
        if len(values) > 1:
            raise ValueError(f"{file} would mix runs of {name} {' and '.join(values)}: their losses cannot be compared; name another file")


def bend_sentence(bend: float) -> str:
    """What to say of a loss that lies above the power law of its cheaper half."""
    return f"the loss bends: at the largest compute it is {bend:.0%} above what the cheaper half of the optima foretells"


@dataclass(frozen=True, repr=False, eq=False)
class ScalingLaws:
    """The runs of a sweep, the optimum at each compute, and the power laws through them."""

    runs: pd.DataFrame  # a row a run: RUN, SOURCE, MEASURED

    @classmethod
    def read(cls, file: str | Path) -> "ScalingLaws":
        """From a sweep's file."""
        rows = read_rows(Path(file))
        if not rows:
            raise ValueError(f"{file} holds no runs: expected the JSON lines of a sweep (workbench scaling)")
        return cls(pd.DataFrame(rows))

    @cached_property
    def optima(self) -> pd.DataFrame:
        """A row a compute (FLOPs): loss, n_features, n_steps and lr at the valley's floor; edge says where the grid ends before it."""
        return find_optima(self.runs)

    @property
    def inside(self) -> pd.DataFrame:
        """The optima that the grid encloses: what the laws are fitted to."""
        return self.optima[self.optima["edge"] == ""]

    def law(self, name: str) -> PowerLaw:
        """loss, n_features, n_steps or lr at the optimum as a power of compute. Raises ValueError where too few optima lie inside."""
        if name not in LAWS:
            raise ValueError(f"there is no law of {name!r}; there is {', '.join(LAWS)}")
        return PowerLaw(name, self.inside["compute"].to_numpy(), self.inside[name].to_numpy())

    @property
    def bend(self) -> float:
        """How far the loss at the largest compute lies above what a law through the cheaper half of the optima foretells: 0.05 is 5 %.

        0 for a true power law. Where loss nears a floor the line bends, and a plan that goes beyond the sweep promises too much.
        Raises ValueError where the cheaper half has too few optima for a law.
        """
        cheaper, last = self.inside.head(max(FEWEST, len(self.inside) // 2)), self.inside.iloc[-1]
        foretold = PowerLaw("loss", cheaper["compute"].to_numpy(), cheaper["loss"].to_numpy()).at(float(last["compute"]))
        return float(last["loss"]) / foretold.value - 1

    @property
    def table(self) -> pd.DataFrame:
        """A row a law: its exponent with the interval's ends, its scale, how many optima it goes through."""
        laws = {name: self.law(name) for name in LAWS}
        exponents = {name: law.exponent for name, law in laws.items()}
        columns = {name: [vars(exponent)[name] for exponent in exponents.values()] for name in ("value", "low", "high")}
        facts = {"scale": [law.scale for law in laws.values()], "n_optima": len(self.inside)}
        return pd.DataFrame({"law": LAWS, **columns, **facts}).rename(columns={"value": "exponent"})

    def describe(self) -> list[str]:
        """What was swept, the laws, and the optima that the grid does not enclose: a sentence each."""
        first, computes = self.runs.iloc[0], self.optima["compute"]
        where = f"{first['hook_name']} of {first['model_name']}, d_in {first['d_in']}, batches of {first['batch']:,}, λ {first['l1']:g}"
        said = [f"{len(self.runs)} runs at {where}; compute from {computes.min():.2g} to {computes.max():.2g} FLOPs"]
        if len(self.inside) >= FEWEST:
            said += [f"{name} ∝ compute^{self.law(name).exponent}" for name in LAWS]
            said += [bend_sentence(self.bend)] if self.bend > BENT else []
        else:
            said += [f"no fits: {len(self.inside)} optima lie inside the grid, {FEWEST} are needed"]
        outside = self.optima[self.optima["edge"] != ""]
        return said + [f"not in the fits: at {row.compute:.2g} FLOPs the best run has {row.edge}" for row in outside.itertuples()]

    def __repr__(self) -> str:
        return "\n".join(["ScalingLaws", *(f"  {sentence}" for sentence in self.describe())])

    def _repr_html_(self) -> str:
        from widgets.marks import sentences_html

        return sentences_html("Scaling laws", self.describe())

    def plot_loss(self) -> "Figure":
        """Loss against compute, a curve for each number of features, with the lower envelope and its fit."""
        from widgets.figures.scaling import plot_loss

        return plot_loss(best_runs(self.runs), self.optima, self.law("loss"))

    def plot_sizes(self) -> "Figure":
        """Optimal number of features and of steps against compute."""
        from widgets.figures.scaling import plot_optima

        return plot_optima(self.optima, [self.law("n_features"), self.law("n_steps")], "Features and steps at the optimum")

    def plot_lr(self) -> "Figure":
        """Optimal learning rate against compute."""
        from widgets.figures.scaling import plot_optima

        return plot_optima(self.optima, [self.law("lr")], "Learning rate at the optimum")
