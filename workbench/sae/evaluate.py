"""How good an SAE or a transcoder is, measured in one pass over texts.

    l0                   active features a token
    fvu                  Σ‖x − x_hat‖² / Σ‖x − mean of x‖²                                explained_variance = 1 − fvu
    loss_recovered       (loss(zero) − loss(x_hat)) / (loss(zero) − loss(x))               next-token loss with x replaced
    density, max_act     of each feature: share of the tokens it is active on; its largest activation
    dead                 share of features that were active on none of n_tokens

A transcoder's fvu is of what it predicts, y − y_hat at its output, and there it is y that is replaced: by y_hat of the x that the
undisturbed model reads, by zeros, by its mean.

Start tokens are left out: features fire there strongly and mean nothing. Where x is replaced, it is at every token but these. Sums are
float64. Scaling Monosemanticity, "Sparse autoencoders" and "Feature survey", for what to compare with: l0 < 300, fvu ≤ 0.35.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from workbench.activations.rows import Row, Rows, as_batch, like_length
from workbench.activations.texts import Source, read_texts
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.hooks import check_dictionary, check_finite, hooked
from workbench.model.memory import Need, in_words, pass_bytes
from workbench.sae.dictionary import Dictionary, Outputs
from workbench.sae.evaluation import Evaluation, Losses, share
from workbench.sae.parts import N_ACTS, encoding_bytes, n_parts
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder
from workbench.shapes import Activations, FeatureActs, TokenMask, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_ROWS = 256  # read ahead and sorted by length, so that little is padding; the mean for mean-ablation is over the first of these
N_TOKENS = 2048  # in a forward pass
N_LOGITS = 2**25  # at once: 128 MB
LESS = "fewer tokens in a row take less: context=256"


@torch.no_grad()
@in_words("evaluating", LESS)
def evaluate(
    model: "TransformerBridge",
    sae: Dictionary,
    texts: Source,
    *,
    n_loss_tokens: int = 2**16,
    context: int | None = None,
    progress: bool = True,
    insist: bool = False,
) -> Evaluation:
    """How well the SAE, or the transcoder, does on these texts (whatever `read_texts` reads): see the top of this file.

    n_loss_tokens  the first so many tokens measure the loss, four forward passes for each; 0 leaves it out
    context        as in ActivationStream: a document a row, or packed rows of so many tokens

    Raises ValueError where model and SAE do not fit, there is no text, or more is asked for than memory holds, unless insist.
    """
    check_dictionary(model, sae)
    reads, writes = sae.reads, sae.writes
    sums, losses = _Sums(sae), _LossSums(model, sae, writes)
    head, mean = Head(model, [reads, writes]), None
    n_tokens = min(N_TOKENS, max(256, N_LOGITS // model.cfg.d_vocab))
    with tqdm(desc="evaluating", unit="token", unit_scale=True, disable=not progress, delay=2) as bar, machine_rate():
        for batches in in_groups(model, Rows(model, read_texts(texts), context), n_tokens):
            need = _need(model.cfg, sae, batches)
            need.check(sae.b_enc.device, insist, progress and mean is None)
            if mean is None:
                mean = torch.cat([head(tokens)[writes][is_text].double() for tokens, is_text in batches]).mean(0)
            for tokens, is_text in batches:
                found = head(tokens)
                for name, each in found.items():
                    check_finite(each[is_text], name)
                x, y = (found[name][is_text].float() for name in (reads, writes))
                sums.add(x, y)
                if losses.n_tokens < n_loss_tokens:
                    losses.add(tokens, is_text, x, mean.float())
                bar.update(int(is_text.sum()))
    if not sums.n_tokens:
        raise ValueError("there is no text to evaluate on")
    return Evaluation(
        l0=float(sums.n_active.sum()) / sums.n_tokens,
        fvu=share(sums.squared_error, sums.variance),
        losses=losses.means(),
        n_tokens=sums.n_tokens,
        table=sums.table(),
        hook_name=reads,
        model_name=str(model.cfg.model_name),
        predict=writes if isinstance(sae, Transcoder) else "",
    )


@torch.no_grad()
def decoder_cosine(sae: Dictionary, other: Dictionary) -> pd.DataFrame:
    """For each feature of `sae`: its nearest feature in `other`, by the cosine of their decoder directions. Columns feature, nearest,
    cosine. A dictionary learned again should find most features again (cosine near 1)."""
    for each in (sae, other):
        if not isinstance(each, Dictionary):
            raise ValueError(f"{each!r} is no dictionary: expected two SAEs or transcoders")
    if sae.W_dec.shape[1] != other.W_dec.shape[1]:
        raise ValueError(f"directions of width {sae.W_dec.shape[1]} and {other.W_dec.shape[1]} cannot be compared")
    theirs = other.W_dec.detach().float()
    theirs = theirs / theirs.norm(dim=1, keepdim=True).clamp_min(1e-12)
    found = []
    for ours in sae.W_dec.detach().float().split(max(1, N_ACTS // len(theirs))):  # cosines at once
        cosines = (ours / ours.norm(dim=1, keepdim=True).clamp_min(1e-12)) @ theirs.to(ours.device).T
        found.append(torch.stack([value.double() for value in cosines.max(1)]))
    cosine, nearest = torch.cat(found, dim=1).cpu().numpy()
    return pd.DataFrame({"feature": np.arange(len(cosine)), "nearest": nearest.astype(int), "cosine": cosine})


def in_groups(model: Any, rows: Iterable[Row], n_tokens: int) -> Iterator[list[tuple[Tokens, TokenMask]]]:
    """Batches of rows of like length, in groups of N_ROWS rows."""
    rows = iter(rows)
    while group := list(islice(rows, N_ROWS)):
        yield [as_batch(model, some) for some in like_length(group, n_tokens)]


def passes_and_logits(cfg: Any, tokens: Tokens) -> dict[str, int]:
    """What a pass over these takes: the model's own, and all logits with their losses."""
    return {"passes of the model": pass_bytes(cfg, tokens.shape[1], len(tokens)), "logits": 3 * 4 * tokens.numel() * cfg.d_vocab}


def _need(cfg: Any, sae: Dictionary, batches: Sequence[tuple[Tokens, TokenMask]]) -> Need:
    """Of the longest batch: logits of a pass, feature activations of some of its tokens, what is read and written."""
    tokens = max((tokens for tokens, _ in batches), key=lambda tokens: tokens.numel())
    n, per_feature = tokens.numel(), 20 * sae.cfg.d_sae
    activations = 8 * 4 * n * sum(sae.W_dec.shape[1:]) + per_feature
    return Need(
        "evaluating", passes_and_logits(cfg, tokens) | {"activations": activations, "feature activations": encoding_bytes(sae, n)}, LESS
    )


class _Sums:
    """What is summed over tokens about the SAE alone."""

    def __init__(self, sae: Dictionary):
        self.sae, device = sae, sae.W_dec.device
        self.n_tokens, self.squared_error, self.squares = 0, 0.0, 0.0
        self.total = torch.zeros(sae.W_dec.shape[1], dtype=torch.float64, device=device)
        self.n_active = torch.zeros(sae.cfg.d_sae, dtype=torch.int64, device=device)
        self.max_act = torch.zeros(sae.cfg.d_sae, device=device)

    def add(self, x: Activations, y: Outputs) -> None:
        for part, goal in zip(_parts(self.sae, x), _parts(self.sae, y), strict=True):
            self._add(part, goal, self.sae.encode(part.to(self.sae.W_dec.dtype)))

    def _add(self, x: Activations, y: Outputs, feature_acts: FeatureActs) -> None:
        target = y - _offset(self.sae, x)
        self.squared_error += (target - self.sae.decode(feature_acts, x.to(feature_acts.dtype))).double().square().sum().item()
        self.squares += target.double().square().sum().item()
        self.total += target.double().sum(0)
        self.n_active += counts(feature_acts)
        self.max_act = torch.maximum(self.max_act, feature_acts.amax(0).float())
        self.n_tokens += len(x)

    @property
    def variance(self) -> float:
        """Σ‖y − mean of y‖², an SAE's y being x."""
        return self.squares - self.total.square().sum().item() / self.n_tokens

    def table(self) -> pd.DataFrame:
        density = self.n_active.double().cpu().numpy() / self.n_tokens
        return pd.DataFrame({"feature": np.arange(len(density)), "density": density, "max_act": self.max_act.cpu().numpy()})


class _LossSums:
    """Next-token losses, at tokens of the texts that are followed by one."""

    def __init__(self, model: "TransformerBridge", sae: Dictionary, hook_name: str):
        self.model, self.sae, self.hook_name = model, sae, hook_name
        self.sums: dict[str, float] = dict.fromkeys(("clean", "spliced", "zero", "mean"), 0.0)
        self.n_tokens = 0

    def add(self, tokens: Tokens, is_text: TokenMask, x: Activations, mean: Float[Tensor, "d_out"]) -> None:
        def spliced(y: Tensor) -> Tensor:
            read = x if isinstance(self.sae, Transcoder) else y
            return torch.cat([self.sae(part.to(self.sae.W_dec.dtype)) + _offset(self.sae, part) for part in _parts(self.sae, read)])

        replacements: dict[str, Callable[[Tensor], Tensor]] = {
            "clean": lambda y: y,
            "spliced": spliced,
            "zero": torch.zeros_like,
            "mean": lambda y: mean.expand_as(y),
        }
        is_scored = is_text[:, :-1] & is_text[:, 1:]
        for name, new in replacements.items():
            with hooked(self.model, self.hook_name, put_at(new, is_text)):
                logits = self.model.forward(tokens)
            loss = cross_entropy(logits[:, :-1][is_scored].float(), tokens[:, 1:][is_scored], reduction="none")
            self.sums[name] += loss.double().sum().item()
        self.n_tokens += int(is_scored.sum())

    def means(self) -> Losses:
        n = self.n_tokens
        return Losses(**{name: share(total, n) for name, total in self.sums.items()}, n_tokens=n)


def counts(feature_acts: FeatureActs) -> Int[Tensor, "d_sae"]:
    """On how many rows each feature is active. A sum of booleans would make int64 of all of them first."""
    return feature_acts.nonzero()[:, 1].bincount(minlength=feature_acts.shape[1])


def put_at(new: Callable[[Activations], Activations], where: TokenMask) -> Callable[[Tensor], Tensor]:
    """A function of what stands at a hook point: the same with new(x) at some of its tokens."""

    def replace(value: Tensor) -> Tensor:
        value = value.clone()
        x = value[where]
        value[where] = new(x.flatten(1).float()).view_as(x).to(value.dtype)
        return value

    return replace


def _parts(sae: Dictionary, x: Tensor) -> Sequence[Tensor]:
    """x in parts whose feature activations fit in memory."""
    return x.tensor_split(n_parts(sae.cfg.d_sae, len(x)))


def _offset(sae: Dictionary, x: Activations) -> Tensor | float:
    """What an SAE that centers x takes away before it encodes; it gives x_hat without it."""
    return x.mean(-1, keepdim=True) if isinstance(sae, SAE) and sae.cfg.centers_input else 0.0
