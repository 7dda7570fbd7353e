"""Are features more than neurons? Each feature's Pearson correlation with every neuron of all layers before it.

    r = Σ(f − f̄)(n − n̄) / √(Σ(f − f̄)² Σ(n − n̄)²)        over all tokens but start tokens; sums in float64, in one pass over the texts

Neurons are the units of the MLPs' hidden layers, after their non-linearity (`mlp.hook_post`). In the paper 82 % of the features have no
neuron with |r| > 0.3. Scaling Monosemanticity, "Features vs. Neurons".

    found = correlate(model, sae, texts)          found.table, found.share(0.3), found.plot()
    found.save(index)                             from then on pages of the index show each feature's neurons
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from workbench.activations.rows import Rows, as_batch, like_length
from workbench.activations.texts import read_texts
from workbench.features.index.index import FeatureIndex
from workbench.features.index.parts import Correlate
from workbench.features.survey.activity import Units
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.hooks import check_dictionary
from workbench.model.points import place
from workbench.sae.dictionary import Dictionary
from workbench.shapes import Activations, FeatureActs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

BOUND = 0.3  # |r| up to which the paper calls a feature unlike any neuron
N_KEPT = 5  # neurons of each feature, for its page
N_FEATURES = 1024  # drawn where none are named: the sums take features × neurons × 8 bytes
N_ROWS, N_TOKENS = 256, 4096  # texts sorted by length together; tokens in a forward pass


@dataclass(frozen=True, repr=False, eq=False)
class NeuronCorrelations:
    """`.table`: one row a feature: feature, neuron (its strongest), correlation, layer. `kept`: feature → its N_KEPT strongest."""

    kept: dict[int, list[Correlate]]
    sae_name: str
    n_tokens: int
    n_neurons: int

    @property
    def table(self) -> pd.DataFrame:
        """One row per feature: its most correlated neuron, the Pearson correlation, the neuron's layer."""
        rows = [(feature, each[0].neuron, each[0].correlation) for feature, each in self.kept.items() if each]
        table = pd.DataFrame(rows, columns=["feature", "neuron", "correlation"])
        return table.assign(layer=[int(name.split(".")[1]) for name in table["neuron"]])

    def share(self, bound: float = BOUND) -> float:
        """Share of the features whose largest |r| is at most `bound`."""
        return float((self.table["correlation"].abs() <= bound).mean())

    def plot(self) -> Any:
        """The share of features against their largest |r|."""
        from widgets.figures.features import plot_correlations

        return plot_correlations({self.sae_name: self.table["correlation"].abs().to_numpy(float)}, BOUND)

    def save(self, index: FeatureIndex) -> None:
        """Keep them beside the index: its pages show them."""
        index.save_neurons(self.kept)

    def __repr__(self) -> str:
        return (
            f"{len(self.kept):,} features of {self.sae_name} and {self.n_neurons:,} neurons of the layers before, over {self.n_tokens:,} "
            f"tokens: largest |r| at most {BOUND} for {self.share():.0%}, {self.table['correlation'].abs().median():.2f} in the median"
        )

    def _repr_html_(self) -> str:
        return f"<div>{escape(repr(self))}{self.plot()._still}</div>"


def correlate(
    model: "TransformerBridge",
    sae: Dictionary,
    texts: Iterable[str] | str | Path,
    features: Sequence[int] | None = None,
    *,
    name: str = "features",
    progress: bool = True,
) -> NeuronCorrelations:
    """Features (by default N_FEATURES drawn at random) against all neurons before the SAE's hook point. A feature that is never active has
    no correlations. Raises ValueError for a hook point with no MLP before it, or no text."""
    check_dictionary(model, sae)
    texts = read_texts(texts) if isinstance(texts, str | Path) else texts
    hook_names = neurons_before(sae.reads)
    chosen = np.asarray(features if features is not None else _drawn(sae.cfg.d_sae))
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < sae.cfg.d_sae:
        raise ValueError(f"features {chosen.min()} to {chosen.max()}: the SAE has features 0 to {sae.cfg.d_sae - 1:,}")
    head, sums = Head(model, [sae.reads, *hook_names]), None
    at = torch.as_tensor(chosen, device=sae.W_dec.device)
    with tqdm(desc="features and neurons", unit="token", unit_scale=True, disable=not progress, delay=2) as bar, torch.no_grad():
        rows = iter(Rows(model, texts))
        while group := list(islice(rows, N_ROWS)):
            for some in like_length(group, N_TOKENS):
                tokens, is_text = as_batch(model, some)
                acts = head(tokens)
                ours = sae.encode(acts[sae.reads][is_text].to(sae.W_dec.dtype))[:, at]
                theirs = torch.cat([acts[hook_name][is_text] for hook_name in hook_names], dim=1)
                sums = sums or _Sums(ours, theirs)
                sums.add(ours, theirs)
                bar.update(len(ours))
    if sums is None or sums.n < 2:
        raise ValueError("there is no text to correlate over")
    widths = [acts[hook_name].shape[-1] for hook_name in hook_names]
    named = [
        f"{hook_name.removesuffix('.hook_post')} {i}" for hook_name, width in zip(hook_names, widths, strict=True) for i in range(width)
    ]
    return NeuronCorrelations(_strongest(sums.pearson(), chosen, named), name, sums.n, len(named))


def neurons_before(hook_name: str) -> list[str]:
    """The hook points of all MLPs' hidden layers that the hook point's activation has behind it."""
    n_layers, is_inner = place(hook_name)
    if n_layers < 0:
        raise ValueError(f"{hook_name} is not inside a block: no telling which neurons come before it")
    is_behind_mlp = is_inner and hook_name.endswith((".hook_mlp_out", ".mlp.hook_out"))
    found = [f"blocks.{layer}.mlp.hook_post" for layer in range(n_layers + is_behind_mlp)]
    if not found:
        raise ValueError(f"no MLP comes before {hook_name}")
    return found


def neuron_units(model: "TransformerBridge", hook_name: str, chosen: Sequence[int]) -> Units:
    """Some neurons as units of an Activity, active where they are above 0: to score them as features are scored."""
    at = torch.as_tensor(list(chosen), device=model.cfg.device)
    return Units(hook_name, lambda x: x[:, at].clamp_min(0))


class _Sums:
    """Sums over tokens in float64, of values less their mean in the first batch: what is subtracted in the end is then small."""

    def __init__(self, ours: FeatureActs, theirs: Activations):
        self.n, self.shifts = 0, [x.double().mean(0) for x in (ours, theirs)]
        self.totals = [torch.zeros_like(shift) for shift in self.shifts]
        self.squares = [torch.zeros_like(shift) for shift in self.shifts]
        self.products = torch.zeros(len(self.shifts[0]), len(self.shifts[1]), dtype=torch.float64, device=ours.device)

    def add(self, ours: FeatureActs, theirs: Activations) -> None:
        x, y = (values.double() - shift for values, shift in zip((ours, theirs), self.shifts, strict=True))
        for i, values in enumerate((x, y)):
            self.totals[i] += values.sum(0)
            self.squares[i] += values.square().sum(0)
        with machine_rate():
            self.products += x.T @ y
        self.n += len(x)

    def pearson(self) -> Float[Tensor, "n_features n_neurons"]:
        """NaN where one of the two never changes."""
        (x, y), (xx, yy) = self.totals, self.squares
        covariance = self.products - x[:, None] * y / self.n
        spread = (xx - x.square() / self.n)[:, None] * (yy - y.square() / self.n)
        return torch.where(spread > 0, covariance / spread.clamp_min(0).sqrt(), torch.nan)


def _drawn(d_sae: int) -> list[int]:
    return sorted(random.Random(0).sample(range(d_sae), min(N_FEATURES, d_sae)))


def _strongest(r: Float[Tensor, "n_features n_neurons"], features: np.ndarray, names: Sequence[str]) -> dict[int, list[Correlate]]:
    best = r.abs().nan_to_num(-1).topk(min(N_KEPT, r.shape[1]), dim=1)
    values, kept = r.gather(1, best.indices).tolist(), {}
    for feature, row, at in zip(features.tolist(), values, best.indices.tolist(), strict=True):
        kept[feature] = [Correlate(str(names[i]), value) for i, value in zip(at, row, strict=True) if not math.isnan(value)]
    return kept
