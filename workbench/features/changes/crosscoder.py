"""What tuning changed, by a dictionary of both models: one set of features that is trained to explain the base's and the tuned model's
activations at once, from both. A feature that only one model needs has a decoder row for that one only.

    x = [x_base, x_tuned]        feature_acts = BatchTopK(x @ W_enc + b_enc)        [x̂_base, x̂_tuned] = feature_acts @ [W_base, W_tuned] + b
    share_i = ½ (1 + (‖W_tuned,i‖ − ‖W_base,i‖) / max(‖W_tuned,i‖, ‖W_base,i‖))
              0: the base's only, ½: of both, 1: the tuned model's only

    crosscoder = train_crosscoder(base, tuned, texts, n_steps=1000)          minutes; .save(folder), Crosscoder.load(folder)
    diff(base, tuned, texts, crosscoder=crosscoder).crosscoder               its features, beside the other two views

Sparse crosscoders and their use to compare models: Lindsey et al. 2024. A norm of 0 is no proof: a feature of both can be split, or the
dictionary can leave the base's part of it in its error (Minder et al. 2025, arXiv 2504.02922, who therefore train with BatchTopK, not L1).
Latent scaling asks whether it did: with d the row in the model that has the feature, and the other model m,

    β(y) = Σ feature_act · (d · y) / (‖d‖² Σ feature_act²)                the scale at which d explains y best
    nu_error = β(x_m − x̂_m) / β(x − x̂ + feature_act · d)                 near 1: the other model has it too, in what was left unexplained
    nu_reconstruction = β(x̂_m − b_m) / β(x̂ − b)                          near 1: the other model has it too, in other features

A feature of one model only is confirmed where both are small (0.2 and 0.5, as there).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from workbench.activations.rows import Row, as_batch, batches
from workbench.activations.stream import ActivationStream
from workbench.features.changes.fit import check_pair
from workbench.features.changes.reads import Spread
from workbench.features.search.codes import tokens_of
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.hooks import check_finite
from workbench.model.tokens import is_start_token
from workbench.sae.evaluation import share
from workbench.sae.sae import SAE
from workbench.sae.training.train import TrainConfig, train

BASE_ONLY, TUNED_ONLY, BOTH = 0.1, 0.9, (0.4, 0.6)  # shares; between them a feature leans
MOST_ERROR, MOST_RECONSTRUCTION = 0.2, 0.5
N_TOKENS = 4096  # read at once
PAIR = "crosscoder"  # in metadata: what makes an SAE's folder a crosscoder's


@dataclass(frozen=True, eq=False)
class Crosscoder:
    """`sae`: a dictionary on [x_base, x_tuned] (2 · d_in), the base's half first."""

    sae: SAE

    @property
    def hook_name(self) -> str:
        """Where both models are read."""
        return self.sae.cfg.hook_name

    @property
    def d_in(self) -> int:
        """Of one model's activations."""
        return self.sae.cfg.d_in // 2

    @property
    def rows(self) -> tuple[Float[Tensor, "d_sae d_in"], Float[Tensor, "d_sae d_in"]]:
        """(W_base, W_tuned)."""
        return self.sae.W_dec[:, : self.d_in], self.sae.W_dec[:, self.d_in :]

    @property
    def shares(self) -> Float[Tensor, "d_sae"]:
        """0: the base's only, ½: of both, 1: the tuned model's only."""
        base, tuned = (rows.double().norm(dim=1) for rows in self.rows)
        return 0.5 * (1 + (tuned - base) / torch.maximum(base, tuned).clamp(min=1e-30))

    def save(self, folder: str | Path) -> Path:
        """An SAE's folder."""
        self.sae.save(folder)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "Crosscoder":
        """Raises ValueError for an SAE of one model."""
        sae = SAE.load(folder, device)
        if not sae.cfg.metadata.get(PAIR):
            raise ValueError(f"{folder} holds an SAE of one model: expected what train_crosscoder saved")
        return cls(sae)


class PairStream:
    """[x_base, x_tuned] of the same tokens, shuffled: what a crosscoder is trained on. texts are read twice, so they must stand still."""

    def __init__(self, base: Any, tuned: Any, texts: Sequence[str], hook_name: str, batch: int, seed: int = 0):
        self._streams = [ActivationStream(model, list(texts), hook_name, batch, seed=seed) for model in (base, tuned)]
        self.hook_name, self.model_name = hook_name, self._streams[0].model_name
        self.d_in = 2 * self._streams[0].d_in
        squares = sum(each.d_in / each.scale**2 for each in self._streams)  # E‖x‖² of both halves
        self.scale = (self.d_in / squares) ** 0.5

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.cat(halves, dim=1) for halves in zip(*self._streams, strict=True))


def train_crosscoder(  # noqa: PLR0913 a notebook's call
    base: Any,
    tuned: Any,
    texts: Sequence[str],
    *,
    hook_name: str | None = None,
    d_sae: int | None = None,
    k: int = 16,
    n_steps: int = 1000,
    batch: int = 2048,
    seed: int = 0,
    progress: bool = True,
) -> Crosscoder:
    """base: a Workbench. tuned: another, of which the model counts, or a model. By default at the base's SAE's hook point, with as many
    features. k: active features a token, of all. Raises ValueError for models that do not fit, and for less text than n_steps batches."""
    model = check_pair(base, tuned)
    stream = PairStream(base.model, model, texts, base.sae.reads if hook_name is None else hook_name, batch, seed)
    cfg = TrainConfig(base.sae.cfg.d_sae if d_sae is None else d_sae, n_steps, architecture="batchtopk", k=k, seed=seed)
    sae = train(stream, cfg, progress)
    return Crosscoder(_marked(sae))


def _marked(sae: SAE) -> SAE:
    sae.cfg = replace(sae.cfg, metadata={**sae.cfg.metadata, PAIR: True})
    return sae


@dataclass
class _Sums:
    """Over tokens: what the scales are made of, each (2, d_sae) by model, and what explained variance is."""

    error: Tensor
    reconstruction: Tensor
    squares: Tensor  # (d_sae) Σ feature_act²
    active: Tensor  # (d_sae) tokens
    errors: list[float]
    spreads: tuple[Spread, Spread]


@torch.no_grad()
def read_crosscoder(crosscoder: Crosscoder, base: Any, tuned: Any, texts: Iterable[str], progress: bool = True) -> pd.DataFrame:
    """One row a feature that is active on these texts: feature, kind (shared, base only, tuned only, leaning), share, density, activation
    (mean over tokens), nu_error, nu_reconstruction (NaN where it is of both), is_confirmed. Those furthest from both come first, by how
    active they are. `attrs`: explained, of each model."""
    sae, model = crosscoder.sae, check_pair(base, tuned)
    rows = [tokens_of(base.model, text, number) for number, text in enumerate(texts)]
    heads = [Head(each, [crosscoder.hook_name]) for each in (base.model, model)]
    zeros = torch.zeros(2, sae.cfg.d_sae, dtype=torch.float64)
    sums = _Sums(zeros.clone(), zeros.clone(), zeros[0].clone(), zeros[0].clone(), [0.0, 0.0], (Spread(), Spread()))
    n_tokens = 0
    with tqdm(total=len(rows), desc="reading texts", unit="text", disable=not progress, delay=2) as bar:
        for some in batches([len(row) for row in rows], N_TOKENS):
            tokens = as_batch(base.model, [Row(rows[i], ()) for i in some])[0]
            lengths = torch.tensor([len(rows[i]) for i in some], device=tokens.device)
            is_text = (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]) & ~is_start_token(base.model, tokens)
            halves = [head(tokens.to(head.model.cfg.device))[crosscoder.hook_name][is_text].to(sae.W_dec) for head in heads]
            if halves[0].shape[1] != crosscoder.d_in:
                there = f"{halves[0].shape[1]} numbers at {crosscoder.hook_name}"
                raise ValueError(f"this crosscoder is of other models: it reads {crosscoder.d_in} numbers a model, these have {there}")
            for half in halves:
                check_finite(half, crosscoder.hook_name)
            _add(sums, crosscoder, halves)
            n_tokens += len(halves[0])
            bar.update(len(some))
    return _table(sums, crosscoder, n_tokens)


def _add(sums: _Sums, crosscoder: Crosscoder, halves: list[Tensor]) -> None:
    sae = crosscoder.sae
    with machine_rate():
        acts = sae.encode(torch.cat(halves, dim=1))
        x_hats = sae.decode(acts).split(crosscoder.d_in, dim=1)
        own = torch.where(crosscoder.shares.to(acts) >= 0.5, 1, 0)  # of which model a feature's row is taken
        d = torch.where(own[:, None] == 1, crosscoder.rows[1], crosscoder.rows[0])
        b_dec = sae.b_dec.split(crosscoder.d_in)
        for m, (x, x_hat) in enumerate(zip(halves, x_hats, strict=True)):
            sums.error[m] += (acts * ((x - x_hat) @ d.T)).sum(0).double().cpu()
            sums.reconstruction[m] += (acts * ((x_hat - b_dec[m]) @ d.T)).sum(0).double().cpu()
            sums.errors[m] += float((x - x_hat).double().square().sum())
            sums.spreads[m].add(x)
    sums.squares += acts.double().square().sum(0).cpu()
    sums.active += (acts > 0).sum(0).cpu()


def _table(sums: _Sums, crosscoder: Crosscoder, n_tokens: int) -> pd.DataFrame:
    shares = crosscoder.shares.cpu().numpy()
    own = (shares >= 0.5).astype(int)
    every = np.arange(len(shares))
    norms = np.stack([rows.double().square().sum(1).cpu().numpy() for rows in crosscoder.rows])[own, every]
    energy = norms * sums.squares.numpy()
    error, reconstruction = sums.error.numpy(), sums.reconstruction.numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        nu_error = error[1 - own, every] / (error[own, every] + energy)
        nu_reconstruction = reconstruction[1 - own, every] / reconstruction[own, every]
    is_one = (shares <= BASE_ONLY) | (shares >= TUNED_ONLY)
    kinds = np.select(
        [shares <= BASE_ONLY, shares >= TUNED_ONLY, (shares >= BOTH[0]) & (shares <= BOTH[1])],
        ["base only", "tuned only", "shared"],
        "leaning",
    )
    table = pd.DataFrame(
        {
            "feature": every,
            "kind": kinds,
            "share": shares,
            "density": sums.active.numpy() / n_tokens,
            "activation": np.sqrt(sums.squares.numpy() / n_tokens),
            "nu_error": np.where(is_one, nu_error, np.nan),
            "nu_reconstruction": np.where(is_one, nu_reconstruction, np.nan),
            "is_confirmed": is_one & (nu_error < MOST_ERROR) & (nu_reconstruction < MOST_RECONSTRUCTION),
        }
    )
    weight = np.abs(shares - 0.5) * table["activation"]
    found = (
        table[sums.active.numpy() > 0].assign(_weight=weight).sort_values("_weight", ascending=False, kind="stable").drop(columns="_weight")
    )
    found = found.reset_index(drop=True)
    found.attrs["explained"] = [1 - share(error, spread.variance) for error, spread in zip(sums.errors, sums.spreads, strict=True)]
    return found


def crosscoder_words(table: pd.DataFrame) -> str:
    """What its features say, in a sentence."""
    counts = {kind: int((table["kind"] == kind).sum()) for kind in ("shared", "base only", "tuned only", "leaning")}
    confirmed = [int((table["is_confirmed"] & (table["kind"] == kind)).sum()) for kind in ("base only", "tuned only")]
    base, tuned = table.attrs["explained"]
    return (
        f"Crosscoder: of {len(table):,} active features {counts['shared']:,} are shared, {counts['base only']:,} the base's only "
        f"({confirmed[0]:,} confirmed), {counts['tuned only']:,} the tuned model's only ({confirmed[1]:,} confirmed), "
        f"{counts['leaning']:,} lean; it explains {base:.1%} of the base's variance and {tuned:.1%} of the tuned model's."
    )
