"""Do features earn their place? A prompt's strongest features beside what has no claim to meaning, in one table with a ranking's columns.

    feature           the n of largest |attribution|
    like activation   as many of the other active features, the nearest in activation to each of them
    random direction  each feature's activation taken away along a random unit vector instead
    error             at every position, all that the SAE does not explain
    neuron            the n MLP neurons, of all layers, with the largest |activation · ∂metric/∂activation|

effect = metric(clean) − metric(taken away), exact, one at a time. Features also get their integrated gradients beside the plain
attribution, and the effect of going to their mean, or to their activation in another prompt, beside going to 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from workbench.circuits.acts import read_beside, read_on
from workbench.circuits.evidence.reference import has_means, mean_acts
from workbench.circuits.metrics import Metric, resolve
from workbench.circuits.ranking.ablation import effects_of
from workbench.circuits.ranking.attribution import Attribution, attribute, gradient_at, integrate
from workbench.model.chat import Chat, written
from workbench.model.model import BAR_DELAY
from workbench.model.tokens import is_start_token, to_str_tokens, to_tokens
from workbench.replay.replay import Replay
from workbench.shapes import RowIndex, Rows, Tokens

KINDS = ("feature", "like activation", "random direction", "error", "neuron")
WAYS = ("effect", "effect_mean", "effect_resample")  # to 0, to the mean, to the value in another prompt


@dataclass(frozen=True, repr=False, eq=False)
class Controls:
    """`table`: kind, feature (or neuron; −1 for none), pos, token, activation, attribution, integrated, effect, effect_mean,
    effect_resample, label; NaN where a column has no meaning for a kind, or was not asked for."""

    prompt: str
    metric: Metric
    clean_metric: float
    table: pd.DataFrame

    def by_kind(self) -> pd.DataFrame:
        """One row a kind: n, median and largest |effect|, and the correlation of attribution and integrated gradients with the effect."""
        rows = []
        for kind, mine in self.table.groupby("kind", sort=False):
            effects = mine["effect"].abs()
            correlations = {name: _correlation(mine[name], mine["effect"]) for name in ("attribution", "integrated")}
            rows.append({"kind": kind, "n": len(mine), "median": effects.median(), "largest": effects.max()} | correlations)
        return pd.DataFrame(rows)

    def ways(self) -> pd.DataFrame:
        """How far effects agree between ways of taking features away: correlation with going to 0, and the median |effect|."""
        features = self.table[self.table["kind"].isin(KINDS[:2])]
        known = [way for way in WAYS if features[way].notna().any()]
        correlations = [_correlation(features[way], features["effect"]) for way in known]
        return pd.DataFrame({"way": known, "correlation": correlations, "median": [features[way].abs().median() for way in known]})

    def _repr_html_(self) -> str:
        from widgets.html.act import controls_html

        return controls_html(self)

    def __repr__(self) -> str:
        from widgets.marks import signed

        lines = [f"Controls on {self.prompt!r}, metric {signed(self.clean_metric)}: |effect| of taking away one"]
        lines += [f"  {row.kind:<17} median {row.median:.3f}  largest {row.largest:.3f}  of {row.n}" for row in self.by_kind().itertuples()]
        return "\n".join(lines)


def controls(
    bench: Any, prompt: str | Chat, metric: Metric, n: int = 20, other: str | Chat | None = None, seed: int = 0, progress: bool = True
) -> Controls:
    """Measure features and their controls on one prompt. other: a prompt of as many tokens, from which features take their activations.

    Raises ValueError for a prompt that activates nothing or another of a different length.
    """
    if n < 1:
        raise ValueError(f"n={n}: expected how many features to compare, 1 or more")
    model, sae = bench.model, bench.sae
    prompt = written(model, prompt)
    tokens = to_tokens(model, prompt)
    others = None if other is None else _aligned(bench, tokens, written(model, other))
    found = attribute(model, sae, tokens, metric)
    is_start = is_start_token(model, tokens)[0]
    pairs = found.pairs[~is_start[found.pairs[:, 0]]]
    if not len(pairs):
        raise ValueError(f"no feature of this SAE is active on {prompt!r}: there is nothing to compare")
    measured = _Measured(bench, tokens, metric, found, to_str_tokens(model, tokens))
    pairs = pairs[found.of(pairs).abs().argsort(descending=True, stable=True)]
    integrated = integrate(model, sae, tokens, metric)
    parts = []
    for kind, some in ((KINDS[0], pairs[:n]), (KINDS[1], _like(found.acts_of(pairs[:n]), found.acts_of(pairs[n:]), pairs[n:]))):
        if len(some):
            columns = {"integrated": integrated[some[:, 0], some[:, 1]]}
            parts.append(measured.features(kind, some, columns | measured.other_ways(some, others)))
    parts += [measured.directions(pairs[:n], seed), measured.errors((~is_start).nonzero()[:, 0]), measured.neurons(n, is_start, progress)]
    table = pd.concat(parts, ignore_index=True)
    return Controls(prompt, metric, found.metric, table.reindex(columns=COLUMNS))


COLUMNS = ("kind", "feature", "pos", "token", "activation", "attribution", "integrated", *WAYS, "label")


class _Measured:
    """Makes table rows: what is taken away from x at a position, its first-order estimate and its effect."""

    def __init__(self, bench: Any, tokens: Tokens, metric: Metric, found: Attribution, str_tokens: list[str]):
        self.bench, self.tokens, self.metric, self.found, self.str_tokens = bench, tokens, metric, found, str_tokens
        self.resolved, self.sae = resolve(bench.model, metric), bench.sae
        self.replay = Replay(bench.model, self.sae.writes, tokens)
        self.clean = self.sae.beside(self.replay.clean)

    def features(self, kind: str, pairs: Int[Tensor, "n 2"], columns: Mapping[str, Tensor]) -> pd.DataFrame:
        """Rows of active pairs, each set to 0."""
        pos, feature = pairs.T
        activation = self.found.acts_of(pairs)
        effects = self._without(pos, activation[:, None] * self.sae.W_dec[feature].to(self.clean))
        labels = [self.bench.labels.get(int(f), "") for f in feature]
        return self._rows(kind, pos, feature, activation, self.found.of(pairs), effects, labels).assign(**_plain(columns))

    def other_ways(self, pairs: Int[Tensor, "n 2"], others: Float[Tensor, "pos d_sae"] | None) -> dict[str, Tensor]:
        """Effects of setting features to their mean (where the bench knows it) and to their activation in the other prompt."""
        pos, feature = pairs.T
        levels: dict[str, Tensor] = {}
        if has_means(self.bench):
            levels[WAYS[1]] = mean_acts(self.bench)[feature]
        if others is not None:
            levels[WAYS[2]] = others[pos, feature]
        acts = self.found.acts_of(pairs)
        return {way: self._without(pos, (acts - level)[:, None] * self.sae.W_dec[feature].to(self.clean)) for way, level in levels.items()}

    def directions(self, pairs: Int[Tensor, "n 2"], seed: int) -> pd.DataFrame:
        """Rows of random unit vectors, as long as the pairs' activations."""
        pos, feature = pairs.T
        length = self.found.acts_of(pairs) * self.sae.W_dec[feature].to(self.clean).norm(dim=-1)
        random = torch.randn(len(pairs), self.clean.shape[1], generator=torch.Generator().manual_seed(seed)).to(self.clean)
        taken = length[:, None] * random / random.norm(dim=-1, keepdim=True)
        return self._taken(KINDS[2], pos, taken, "random")

    def errors(self, pos: RowIndex) -> pd.DataFrame:
        """Rows of the SAE's error, whole, one a position."""
        found = self.sae.decode(self.found.feature_acts[pos], read_beside(self.replay, self.sae)[pos])
        return self._taken(KINDS[3], pos, self.sae.centered(self.clean[pos]) - found, "what the SAE does not explain")

    def neurons(self, n: int, is_start: Tensor, progress: bool) -> pd.DataFrame:
        """Rows of MLP neurons, each set to 0."""
        model, parts = self.bench.model, []
        names = [name for k in range(model.cfg.n_layers) if (name := f"blocks.{k}.mlp.hook_post") in model.hook_dict]
        for name in tqdm(names, "neurons", unit="layer", delay=BAR_DELAY, disable=not progress):
            at = gradient_at(model, name, self.tokens, self.metric)
            attribution = (at.x * at.gradient)[0].masked_fill(is_start[:, None], 0.0)
            pos, neuron = _largest(attribution, n)
            value, replay = at.x[0], Replay(model, name, self.tokens)
            x = replay.clean[pos].clone()
            x[torch.arange(len(pos), device=x.device), neuron] = 0.0
            effects = effects_of(replay, self.resolved, pos, x)
            label = [f"MLP {name.split('.')[1]}"] * len(pos)
            parts.append(self._rows(KINDS[4], pos, neuron, value[pos, neuron], attribution[pos, neuron], effects, label))
        if not parts:
            return pd.DataFrame({"kind": []})
        return pd.concat(parts).sort_values("attribution", key=abs, ascending=False, kind="stable").head(n)

    def _taken(self, kind: str, pos: RowIndex, taken: Float[Tensor, "n d_in"], label: str) -> pd.DataFrame:
        attribution = (self.found.gradient[pos] * taken).sum(-1)
        return self._rows(
            kind, pos, torch.full_like(pos, -1), taken.norm(dim=-1), attribution, self._without(pos, taken), [label] * len(pos)
        )

    def _without(self, pos: RowIndex, taken: Float[Tensor, "n d_in"]) -> Rows:
        return effects_of(self.replay, self.resolved, pos, self.clean[pos] - taken)

    def _rows(self, kind: str, pos: RowIndex, feature: RowIndex, activation: Rows, attribution: Rows, effect: Rows, label: list[str]):
        numbers = _plain({"feature": feature, "pos": pos, "activation": activation, "attribution": attribution, "effect": effect})
        return pd.DataFrame(numbers).assign(kind=kind, token=[self.str_tokens[p] for p in pos.tolist()], label=label)


def _like(wanted: Float[Tensor, "_"], there: Float[Tensor, "m"], rest: Int[Tensor, "m 2"]) -> Int[Tensor, "_ 2"]:
    """For each activation wanted the pair of the rest, whose activations are `there`, that is nearest; none twice."""
    chosen, there = [], there.clone()
    for value in wanted[: len(rest)]:
        chosen.append(int((there - value).abs().argmin()))
        there[chosen[-1]] = math.inf
    return rest[chosen]


def _aligned(bench: Any, tokens: Tokens, other: str) -> Float[Tensor, "pos d_sae"]:
    found = to_tokens(bench.model, other)
    if found.shape != tokens.shape:
        raise ValueError(f"the other prompt has {found.shape[1]} tokens, the prompt {tokens.shape[1]}: positions must correspond")
    return bench.sae.encode(read_on(bench.model, bench.sae, found))


def _largest(values: Float[Tensor, "pos d_mlp"], n: int) -> tuple[RowIndex, RowIndex]:
    top = values.abs().flatten().topk(min(n, values.numel())).indices
    return top // values.shape[1], top % values.shape[1]


def _plain(columns: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: (column.double() if column.is_floating_point() else column).cpu().numpy() for name, column in columns.items()}


def _correlation(x: pd.Series, y: pd.Series) -> float:
    known = x.notna() & y.notna()
    is_constant = known.sum() < 3 or x[known].std() == 0 or y[known].std() == 0
    return float("nan") if is_constant else float(np.corrcoef(x[known], y[known])[0, 1])
