"""One prompt at several depths: an SAE at each of several hook points, the same metric, the same measures.

    effect[layer, pos] of a step = metric(clean) − metric(the step's features of that layer set to 0 at pos, all at once)

`rank_layers` ranks every layer's features in one call. `trace_steps` follows features, or steps of a computation (a step is named, and
has features at each layer) through depth: where they are active, and where the answer depends on them. The caller brings the SAEs.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench.circuits.intervene import check_features
from workbench.circuits.metrics import Metric, resolve
from workbench.circuits.ranking.ablation import effects_of
from workbench.circuits.ranking.ranking import FeatureRanking, rank
from workbench.model.chat import Chat, written
from workbench.model.hooks import check_sae
from workbench.model.model import BAR_DELAY
from workbench.model.points import place
from workbench.model.tokens import is_start_token, to_str_tokens, to_tokens
from workbench.replay.replay import Replay
from workbench.sae.sae import SAE

SAEs = Mapping[str, SAE] | Sequence[SAE]  # bench.layers, or any of one model
Steps = Mapping[str, Mapping[str, Sequence[int]]]  # name of the step → hook name → the features that stand for it there


@dataclass(frozen=True, repr=False, eq=False)
class LayerRankings:
    """A ranking at each hook point, in the order of the layers."""

    rankings: dict[str, FeatureRanking]

    @property
    def table(self) -> pd.DataFrame:
        """The rankings' tables one below the other, with their hook_name; largest effect first."""
        parts = [ranking.table.assign(hook_name=name) for name, ranking in self.rankings.items()]
        return pd.concat(parts).sort_values("effect", ascending=False, kind="stable").reset_index(drop=True)

    def __getitem__(self, hook_name: str) -> FeatureRanking:
        if hook_name not in self.rankings:
            raise ValueError(_no_sae(hook_name, self.rankings))
        return self.rankings[hook_name]

    def _repr_html_(self) -> str:
        from widgets.html.act import layer_rankings_html

        return layer_rankings_html(self)

    def __repr__(self) -> str:
        from widgets.marks import signed

        first = next(iter(self.rankings.values()))
        lines = [f"LayerRankings of {first.prompt!r}: the largest effect at each hook point"]
        for name, ranking in self.rankings.items():
            top = ranking.top(1).iloc[0]
            lines.append(f"  {name:<26} {signed(top.effect)}  feature {top.feature} at {top.pos} {top.token!r}  {top.label}".rstrip())
        return "\n".join(lines)


def rank_layers(
    bench: Any,
    saes: SAEs,
    prompt: str,
    metric: Metric,
    ablate: int | None = None,
    labels: Mapping[str, Mapping[int, str]] | None = None,
    progress: bool = True,
) -> LayerRankings:
    """Every SAE's active features on one prompt, by activation, attribution and measured effect. labels: hook name → feature → label."""
    found = {}
    for name, sae in by_layer(bench.model, saes).items():
        view = _View(bench.model, sae, bench.name, (labels or {}).get(name, {}))
        found[name] = rank(view, prompt, metric, ablate=ablate, progress=progress)
    return LayerRankings(found)


@dataclass(frozen=True)
class _View:
    """The bench as `rank` reads it, through one of the SAEs."""

    model: Any
    sae: SAE
    name: str
    labels: Mapping[int, str]

    @property
    def sae_name(self) -> str:
        return f"{self.sae.cfg.d_sae:,} features"


@dataclass(frozen=True, repr=False, eq=False)
class StepTrace:
    """`table`: one row per step, hook point and position: activation (of the step's features there, summed) and effect (of all of them)."""

    prompt: str
    metric: Metric
    clean_metric: float
    str_tokens: list[str]
    table: pd.DataFrame = field(repr=False)

    def summary(self) -> pd.DataFrame:
        """One row a step: where its effect is largest, and the mean depth and position of its effect (weighted by what supports the
        answer; depth in layers, NaN where nothing does)."""
        rows = []
        for step, mine in self.table.groupby("step", sort=False):
            top, weight = mine.loc[mine["effect"].idxmax()], mine["effect"].clip(lower=0)
            total = float(weight.sum()) or float("nan")
            depth, where = (float((mine[name] * weight).sum()) / total for name in ("layer", "pos"))
            at = {"hook_name": top["hook_name"], "pos": top["pos"], "token": top["token"], "effect": top["effect"]}
            rows.append({"step": step} | at | {"mean_layer": depth, "mean_pos": where})
        return pd.DataFrame(rows)

    def grid(self, step: str, value: str = "effect") -> pd.DataFrame:
        """One step's effects (or activations): hook points × positions, the deepest hook point first."""
        if step not in set(self.table["step"]):
            raise ValueError(f"no step {step!r} here{_nearest(step, list(dict.fromkeys(self.table['step'])))}")
        mine = self.table[self.table["step"] == step]
        return mine.pivot(index="hook_name", columns="pos", values=value).reindex(list(dict.fromkeys(mine["hook_name"]))[::-1])

    def plot(self, value: str = "effect"):
        """Plotly: for every step a heat map of effect (or "activation") over layer × position."""
        from widgets.figures.act import plot_trace

        steps = dict.fromkeys(self.table["step"])
        return plot_trace({step: self.grid(step, value) for step in steps}, self.str_tokens, value)

    def _repr_html_(self) -> str:
        from widgets.html.act import trace_html

        return trace_html(self)

    def __repr__(self) -> str:
        from widgets.marks import signed

        lines = [f"StepTrace of {self.prompt!r}, metric {signed(self.clean_metric)}: where each step's effect is largest"]
        for row in self.summary().itertuples():
            lines.append(f"  {row.step:<24} {signed(row.effect)} at {row.hook_name}, position {row.pos} {row.token!r}")
        return "\n".join(lines)


@torch.no_grad()
def trace_steps(bench: Any, saes: SAEs, prompt: str | Chat, metric: Metric, steps: Steps, progress: bool = True) -> StepTrace:
    """Follow each step through the layers: its features of a layer are set to 0 together, one position at a time.

    steps: {"California": {"blocks.3.hook_resid_pre": [556]}}; a step needs no features at every layer: there its effect is not known (NaN).
    The start token is left alone. Raises ValueError for a hook point without an SAE, a step without features, features out of range.
    """
    model, layers = bench.model, by_layer(bench.model, saes)
    _check_steps(steps, layers)
    prompt = written(model, prompt)
    tokens, resolved = to_tokens(model, prompt), resolve(model, metric)
    str_tokens, pos = to_str_tokens(model, tokens), (~is_start_token(model, tokens)[0]).nonzero()[:, 0]
    parts, clean_metric = [], float("nan")
    for name, sae in tqdm(layers.items(), "tracing", unit="layer", delay=BAR_DELAY, disable=not progress):
        replay = Replay(model, name, tokens)
        clean_metric, clean = float(resolved(replay.clean_logits)), sae.beside(replay.clean)
        feature_acts = sae.encode(clean.to(sae.W_dec.dtype))
        for step, features in steps.items():
            mine = list(features.get(name, ()))
            known = {"activation": np.nan, "effect": np.nan}
            if mine:
                acts = feature_acts[pos][:, mine]
                effect = effects_of(replay, resolved, pos, clean[pos] - acts.to(clean) @ sae.W_dec[mine].to(clean))
                known = {"activation": acts.sum(1).double().cpu().numpy(), "effect": effect.numpy()}
            where = {"pos": pos.cpu().numpy(), "token": [str_tokens[p] for p in pos.tolist()]}
            parts.append(pd.DataFrame({"step": step, "hook_name": name, "layer": place(name)[0], **where, **known}))
    order = list(steps)
    table = pd.concat(parts, ignore_index=True).sort_values("step", key=lambda column: column.map(order.index), kind="stable")
    return StepTrace(prompt, metric, clean_metric, str_tokens, table.reset_index(drop=True))


def by_layer(model: Any, saes: SAEs) -> dict[str, SAE]:
    """Hook name → SAE, the first layer first. Raises ValueError where there is none, or two for one hook point."""
    saes = list(saes.values()) if isinstance(saes, Mapping) else saes
    if not saes:
        raise ValueError("no SAE is given: expected one for each hook point to look at")
    for sae in saes:
        check_sae(model, sae)
    names = [sae.cfg.hook_name for sae in saes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"there are {names.count(twice[0])} SAEs at {twice[0]}: give one for each hook point")
    return dict(sorted(zip(names, saes, strict=True), key=lambda item: place(item[0])))


def _check_steps(steps: Steps, layers: Mapping[str, SAE]) -> None:
    if not steps:
        raise ValueError("no step to follow: expected {name: {hook name: features}}")
    for step, features in steps.items():
        for name, some in features.items():
            if name not in layers:
                raise ValueError(f"step {step!r}: {_no_sae(name, layers)}")
            check_features(layers[name], some)
        if not any(features.values()):
            raise ValueError(f"step {step!r} has no features at any of {', '.join(layers)}")


def _no_sae(hook_name: str, layers: Mapping[str, Any]) -> str:
    return f"there is no SAE at {hook_name}{_nearest(hook_name, list(layers))}"


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}? There are {', '.join(names)}" if near else f"; there are {', '.join(names)}"
