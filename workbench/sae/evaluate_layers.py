"""How well transcoders stand in for a model's MLPs: each alone, and all at once; a set of one a layer, or a cross-layer one.

    one layer    its MLP's output is replaced by y_hat of what the undisturbed model reads, of a cross-layer transcoder at all layers below
    all          every MLP's output is replaced by what the transcoders make of what they then read: the replacement model, without errors

Measures as in evaluate.py, start tokens left out and left as they are. "Circuit Tracing" (Ameisen et al., 2025), "Building an interpretable
replacement model".
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from workbench.activations.rows import Rows
from workbench.activations.texts import Source, read_texts
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.hooks import check_cross_layer, check_finite, check_transcoder, hooked, seen
from workbench.model.memory import Need, in_words
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.evaluate import LESS, N_LOGITS, N_TOKENS, counts, in_groups, passes_and_logits, put_at
from workbench.sae.evaluation import share
from workbench.sae.stack import Layer, Predictions, Transcoders, encoding_bytes, stack_of
from workbench.shapes import TokenMask, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ALL = "all"
LOSSES = ("loss", "loss_spliced", "loss_zero")


@torch.no_grad()
@in_words("evaluating", LESS)
def evaluate_layers(
    model: "TransformerBridge",
    transcoders: Transcoders,
    texts: Source,
    *,
    n_loss_tokens: int = 2**14,
    context: int | None = None,
    progress: bool = True,
    insist: bool = False,
) -> pd.DataFrame:
    """A row for each layer, from 0 up, and one for "all": layer, l0, explained_variance, dead, loss, loss_spliced, loss_zero (nats a
    token), loss_recovered, n_tokens. Of "all", l0 is the sum, dead the share of all layers' features, and the variance explained is over
    all layers, each weighing the same.

    n_loss_tokens: the first so many tokens measure losses, by two forward passes a layer and three more. Raises ValueError where the
    transcoders do not fit the model or lack a layer, there is no text, or more is asked for than memory holds, unless insist.
    """
    _check(model, transcoders)
    stack = stack_of(transcoders)
    sums, head = _Sums(stack), Head(model, sorted({name for it in stack for name in (it.hook_name_in, it.hook_name_out)}))
    losses: dict[Any, dict[str, float]] = {name: dict.fromkeys(LOSSES, 0.0) for name in [*range(len(stack)), ALL]}
    n_tokens, n_scored = min(N_TOKENS, max(256, N_LOGITS // model.cfg.d_vocab)), 0
    with tqdm(desc="evaluating", unit="token", unit_scale=True, disable=not progress, delay=2) as bar, machine_rate():
        for batches in in_groups(model, Rows(model, read_texts(texts), context), n_tokens):
            need = _need(model.cfg, stack, batches)
            need.check(stack[0].b_enc.device, insist, progress and not sums.n_tokens)
            for tokens, is_text in batches:
                found = head(tokens)
                for name, each in found.items():
                    check_finite(each[is_text], name)
                x = [found[it.hook_name_in][is_text].flatten(1).float() for it in stack]
                y_hats = sums.add(x, [found[it.hook_name_out][is_text].flatten(1).float() for it in stack])
                if n_scored < n_loss_tokens:
                    n_scored += _add_losses(losses, model, stack, tokens, is_text, y_hats)
                bar.update(int(is_text.sum()))
    if not sums.n_tokens:
        raise ValueError("there is no text to evaluate on")
    table = sums.table()
    for column in LOSSES:
        table[column] = [share(losses[name][column], n_scored) for name in losses]
    table["loss_recovered"] = [share(row.loss_zero - row.loss_spliced, row.loss_zero - row.loss) for row in table.itertuples()]
    return table.assign(n_tokens=sums.n_tokens)


def _need(cfg: Any, stack: Sequence[Layer], batches: Sequence[tuple[Tokens, TokenMask]]) -> Need:
    """Of the longest batch: what every layer reads, writes and predicts, one layer's feature activations, logits."""
    tokens = max((tokens for tokens, _ in batches), key=lambda tokens: tokens.numel())
    parts = passes_and_logits(cfg, tokens)
    parts["activations"] = 4 * tokens.numel() * sum(3 * it.W_enc.shape[0] + 4 * len(it.b_dec) for it in stack)
    return Need("evaluating", parts | {"feature activations": max(encoding_bytes(it, tokens.numel()) for it in stack)}, LESS)


def _check(model: Any, transcoders: Transcoders) -> None:
    if isinstance(transcoders, CrossLayerTranscoder):
        check_cross_layer(model, transcoders)
        return
    missing = sorted(set(range(model.cfg.n_layers)) - set(transcoders))
    if missing:
        raise ValueError(
            f"there is no transcoder for layer {missing[0]} of the model's {model.cfg.n_layers}: evaluate(…) measures one alone"
        )
    for transcoder in transcoders.values():
        check_transcoder(model, transcoder)


class _Sums:
    """What is summed over tokens, by layer."""

    def __init__(self, stack: Sequence[Layer]):
        self.stack, self.n_tokens = stack, 0
        self.n_active = [torch.zeros(it.d_sae, dtype=torch.int64, device=it.b_enc.device) for it in stack]
        self.total = [torch.zeros(len(it.b_dec), dtype=torch.float64, device=it.b_dec.device) for it in stack]
        self.squares, self.squared_errors = [0.0] * len(stack), [0.0] * len(stack)

    def add(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]:
        """y_hat of every layer."""
        predictions = Predictions(self.stack)
        for layer, read in enumerate(x):
            predictions.read(layer, read, lambda first, acts, n=self.n_active[layer]: n.add_(counts(acts)))
        y_hats = [predictions.at(layer, read) for layer, read in enumerate(x)]
        for layer, (goal, y_hat) in enumerate(zip(y, y_hats, strict=True)):
            self.squared_errors[layer] += (goal - y_hat).double().square().sum().item()
            self.squares[layer] += goal.double().square().sum().item()
            self.total[layer] += goal.double().sum(0)
        self.n_tokens += len(x[0])
        return y_hats

    def table(self) -> pd.DataFrame:
        n = self.n_tokens
        fvu = [
            share(error, squares - total.square().sum().item() / n)
            for error, squares, total in zip(self.squared_errors, self.squares, self.total, strict=True)
        ]
        l0 = [float(active.sum()) / n for active in self.n_active]
        dead = [float((active == 0).double().mean()) for active in self.n_active]
        rows = [(layer, *row) for layer, row in enumerate(zip(l0, (1 - each for each in fvu), dead, strict=True))]
        whole = (ALL, sum(l0), 1 - sum(fvu) / len(fvu), float((torch.cat(self.n_active) == 0).double().mean()))
        return pd.DataFrame([*rows, whole], columns=["layer", "l0", "explained_variance", "dead"])


def _add_losses(
    losses: Mapping[Any, dict[str, float]],
    model: Any,
    stack: Sequence[Layer],
    tokens: Tokens,
    is_text: TokenMask,
    y_hats: Sequence[Tensor],
) -> int:
    """How many tokens were scored."""
    is_scored = is_text[:, :-1] & is_text[:, 1:]

    def loss(*put: tuple[str, Callable[[Tensor], Tensor]]) -> float:
        with ExitStack() as hooks:
            for hook_name, new in put:
                hooks.enter_context(hooked(model, hook_name, put_at(new, is_text)))
            logits = model.forward(tokens)
        each = cross_entropy(logits[:, :-1][is_scored].float(), tokens[:, 1:][is_scored], reduction="none")
        return each.double().sum().item()

    clean, out = loss(), [it.hook_name_out for it in stack]
    for layer, y_hat in enumerate(y_hats):
        losses[layer]["loss"] += clean
        losses[layer]["loss_spliced"] += loss((out[layer], lambda y, y_hat=y_hat: y_hat))
        losses[layer]["loss_zero"] += loss((out[layer], torch.zeros_like))
    losses[ALL]["loss"] += clean
    losses[ALL]["loss_zero"] += loss(*((name, torch.zeros_like) for name in out))
    with ExitStack() as reading:
        losses[ALL]["loss_spliced"] += loss(*_replacing(reading, model, stack, is_text))
    return int(is_scored.sum())


def _replacing(reading: ExitStack, model: Any, stack: Sequence[Layer], is_text: TokenMask) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
    """What each output becomes, of what is read in the same pass."""
    x: dict[int, Tensor] = {}
    predictions = Predictions(stack)

    def note(layer: int, value: Tensor) -> None:
        x[layer] = value[is_text].flatten(1).float()
        predictions.read(layer, x[layer])

    put = []
    for layer, it in enumerate(stack):
        reading.enter_context(seen(model, it.hook_name_in, lambda value, layer=layer: note(layer, value)))
        put.append((it.hook_name_out, lambda y, layer=layer: predictions.at(layer, x[layer])))
    return put
