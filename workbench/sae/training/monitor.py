"""What a training run shows of itself while it runs, and what stays of it: metrics.jsonl, a line of JSON every ten steps.

TrainingHistory.read("folder")     the metrics as a table and a figure, during the run or after it
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from workbench.files import parse_json, read_text, write_whole, writing
from workbench.sae.training.learner import Learner, Metrics

METRICS_FILE = "metrics.jsonl"
EVERY = 10  # steps
MEASURES = ("sae", "step", "tokens", "loss", "squared_error", "l0", "fvu", "dead", "lr", "l1", "grad_norm", "tokens_per_second")
DRAW_AFTER, DRAW_SHARE = 5.0, 0.05  # seconds between drawings; of the time passed, so that a long run sends no more than a short one


@dataclass(frozen=True, repr=False, eq=False)
class TrainingHistory:
    """The metrics of a training run. table: for each SAE a row every ten steps: sae, step, tokens, loss, squared_error, l0, fvu, dead,
    lr, l1, grad_norm, tokens_per_second."""

    table: pd.DataFrame

    @classmethod
    def read(cls, folder: str | Path) -> "TrainingHistory":
        """Of the folder that `train` writes, also while it trains."""
        path = Path(folder) / METRICS_FILE
        if not path.exists():
            raise ValueError(f"{path} does not exist: {folder} is not the folder of a training run")
        return cls(pd.DataFrame(read_rows(path)))

    def plot(self) -> Any:
        """Loss, l0, fvu and dead features over the steps, a line for each SAE."""
        from widgets.figures.train import plot_training

        return plot_training(self.table)

    def __repr__(self) -> str:
        if self.table.empty:
            return "TrainingHistory: no steps yet"
        last = self.table.groupby("sae").last()
        return "\n".join(f"SAE {sae}, step {row.step:,.0f}: {in_words(row)}" for sae, row in last.iterrows())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        if self.table.empty:
            return {"text/plain": repr(self)}
        return {**self.plot()._repr_mimebundle_(), "text/plain": repr(self)}


class Monitor:
    """Progress bar, metrics file, live figure and callback of one run; use it in a `with` block."""

    def __init__(
        self,
        learners: Sequence[Learner],
        folder: Path | None = None,
        progress: bool = False,
        on_metrics: Callable[[Metrics], None] | None = None,
    ):
        self.learners, self.on_metrics = learners, on_metrics
        n_done, n_steps = max(learner.n_done for learner in learners), max(learner.cfg.n_steps for learner in learners)
        self.rows: list[Metrics] = []
        self.file = None
        if folder:
            path = folder / METRICS_FILE
            # A killed run had gone on after its last checkpoint: what it wrote since then comes again.
            self.rows = [row for row in read_rows(path) if row["step"] <= n_done] if path.exists() else []
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            write_whole(path, lambda partial: partial.write_text(text))
            self.path, self.file = path, path.open("a")
        widths = ", ".join(f"{learner.cfg.d_sae:,}" for learner in learners)
        source = learners[0].source
        kind = (
            "SAE, " if not source.predict else "transcoder, " if source.n_layers == 1 else f"cross-layer transcoder, {source.n_layers} × "
        )
        self.bar = tqdm(
            total=n_steps,
            initial=n_done,
            desc=f"{kind}{widths} features",
            unit="step",
            disable=not progress,
            mininterval=1,
        )
        self.figure = LiveFigure() if progress and is_notebook() else None
        self.since = time.perf_counter(), learners[0].n_tokens

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *error: object) -> None:
        if self.figure and self.rows:
            self.figure.show(TrainingHistory(pd.DataFrame(self.rows)))
        self.bar.close()
        if self.file:
            with suppress(OSError):  # a full disk was said when the lines were written
                self.file.close()

    def after_step(self) -> None:
        """Once for every batch."""
        self.bar.update()
        n_done = max(learner.n_done for learner in self.learners)
        if n_done % EVERY:
            return
        (then, before), (now, n_tokens) = self.since, (time.perf_counter(), max(learner.n_tokens for learner in self.learners))
        self.since = now, n_tokens
        new = [
            {"sae": number, **learner.metrics(), "tokens_per_second": round((n_tokens - before) / (now - then))}
            for number, learner in enumerate(self.learners)
            if learner.n_done == n_done
        ]
        self.rows += new
        self.bar.set_postfix_str(f"{in_words(new[0])}, {new[0]['tokens_per_second']:,.0f} tokens/s", refresh=False)
        if self.file:
            with writing(self.path):
                self.file.writelines(json.dumps(row) + "\n" for row in new)
                self.file.flush()
        if self.on_metrics:
            for row in new:
                self.on_metrics(row)
        if self.figure and self.figure.is_due():
            self.figure.show(TrainingHistory(pd.DataFrame(self.rows)))


class LiveFigure:
    """One output of a notebook's cell, drawn anew from time to time; a few tens of kilobytes each."""

    def __init__(self) -> None:
        self.start = self.drawn = time.perf_counter()
        self.handle: Any = None

    def is_due(self) -> bool:
        """Was the last drawing long enough ago, seen beside what training took?"""
        now = time.perf_counter()
        return now - self.drawn > max(DRAW_AFTER, DRAW_SHARE * (now - self.start))

    def show(self, history: TrainingHistory) -> None:
        """Draw, in place of the last drawing."""
        from IPython.display import display

        if self.handle is None:
            self.handle = display(history, display_id=True)
        else:
            self.handle.update(history)
        self.drawn = time.perf_counter()


def is_notebook() -> bool:
    """A kernel with a front end; not a terminal, not a script."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def read_rows(path: Path) -> list[Metrics]:
    """The whole lines of a metrics file; a process that is killed may leave half of one. Raises ValueError for other lines."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            row = parse_json(line, f"{path}, line {number},")
            lacking = [name for name in MEASURES if not isinstance(row, dict) or not _is_measure(row.get(name))]
            if lacking:
                raise ValueError(f"{path}, line {number}, is no line of a training run: it lacks {', '.join(lacking)}")
            rows.append(row)
    return rows


def _is_measure(value: Any) -> bool:
    """A number that a table can hold: JSON knows whole ones of any length."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53)


def in_words(metrics: Any) -> str:
    """One row without its pace: the same on every run."""
    return f"loss {metrics['loss']:.2f}, l0 {metrics['l0']:.1f}, fvu {metrics['fvu']:.3f}, dead {metrics['dead']:.1%}"
