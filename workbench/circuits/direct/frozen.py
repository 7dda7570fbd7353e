"""A model with everything frozen that is not linear: attention patterns and the denominators of norms keep the prompt's values.

    block:   y = x + post(attn(x)) + post(mlp)        attn(x)[q] = Σ_head Σ_p pattern[head, q, p] · norm(x)[p] · W_V · W_O + constant
             what an MLP reads = norm(x) again, with its own gain and denominator        mlp: whatever stands in its place

So a change at one place reaches another by a product of matrices, and its effect there is exact ("Circuit Tracing", Ameisen et al. 2025,
Methods for graph construction). A LayerNorm's mean is not frozen: taking it away is linear. Every operation here is read off the model's
own activations and held against them: a model whose blocks are put together in another way is refused, not approximated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from workbench.circuits.direct.spread import Rows, Spread, parted
from workbench.model.callers import alone, put
from workbench.model.hooks import last_logits
from workbench.model.points import placed
from workbench.replay.precision import InFloat32
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Stream = Float[Tensor, "pos d_model"]
Pattern = Float[Tensor, "n_heads q_pos k_pos"]
MOST_MIXED = 2**20  # numbers that heads mix at once: 4 MB, three times
N_CHECKED = 1_000  # tokens whose logits are held against the model's
CLOSE = 1e-4  # of the largest value: float32 rounding through one block is below 1e-5
PROBE = 1e3  # the size of what a norm's gain is read off with: its epsilon, 1e-5 at most, is then nothing beside the variance


class FrozenError(ValueError):
    """A model that is not made of what can be frozen: says which part is not."""


@dataclass(frozen=True)
class FrozenNorm:
    """y = gain · (x − mean(x)) / scale + bias at each position; `mean` only where the norm takes it away."""

    gain: Float[Tensor, "d_model"]
    bias: Float[Tensor, "d_model"]
    scale: Float[Tensor, "pos"]
    is_centred: bool

    def __call__(self, x: Stream) -> Stream:
        """The part of y that is linear in x, without the bias."""
        return self.forth(x, torch.arange(len(x), device=x.device))

    def forth(self, changes: Float[Tensor, "n d_model"], pos: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """Changes of x, each at its position → of y."""
        x = changes - changes.mean(-1, keepdim=True) if self.is_centred else changes
        return x * (self.gain / self.scale[pos, None])

    def back(self, gradients: Float[Tensor, "n d_model"], pos: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """Gradients to y, each at its position → to x."""
        x = gradients * (self.gain / self.scale[pos, None])
        return x - x.mean(-1, keepdim=True) if self.is_centred else x

    def without_gain(self) -> "FrozenNorm":
        """The norm before its gain and bias: (x − mean) / scale."""
        return FrozenNorm(torch.ones_like(self.gain), torch.zeros_like(self.bias), self.scale, self.is_centred)


@dataclass(frozen=True)
class FrozenAttention:
    """out[q] = Σ_head Σ_p pattern[head, q, p] · (x[p] − mean(x[p])) · gain · W_V · W_O + constant, the mean only if the norm before it
    takes it away. Denominators are in the pattern, the gain of a norm after it in W_O. constant: what of the output no input makes."""

    W_V: Float[Tensor, "d_model kv_heads_and_d_head"]
    W_O: Float[Tensor, "heads_and_d_head d_model"]
    pattern: Pattern
    constant: Stream
    gain: Float[Tensor, "d_model"] | None = None  # of the norm before; None: there is none
    is_centred: bool = False

    @cached_property
    def folded(self) -> Float[Tensor, "d_model kv_heads_and_d_head"]:
        """W_V with the norm before in it: a copy, made when a block is first passed, and gone with it."""
        if self.gain is None:
            return self.W_V
        W_V = self.gain[:, None] * self.W_V
        return W_V.sub_(W_V.mean(0)) if self.is_centred else W_V

    def __call__(self, x: Stream) -> Stream:
        """The part of the output that is linear in x."""
        x = x - x.mean(-1, keepdim=True) if self.is_centred else x
        values = self._for_all_heads(self._by_head((x if self.gain is None else x * self.gain) @ self.W_V))
        return rearrange(self.pattern @ values, "head q e -> q (head e)") @ self.W_O

    def forth(self, changes: Spread) -> None:
        """To changes of the input is added what the output changes there: attention looks back only."""
        values = changes.flat @ self.folded
        mixed = values if self.n_shared == 1 else values.new_empty(len(values), len(self.W_O))
        for own, at in changes.where.items():
            self._mix(self.pattern[:, at.start :, at.start :], changes.of(own, values), changes.of(own, mixed))
        changes.flat.addmm_(mixed, self.W_O)

    def back(self, gradients: Spread) -> None:
        """To gradients to the output are added those to the input."""
        at_heads = gradients.flat @ self.W_O.T
        at_values = at_heads if self.n_shared == 1 else at_heads.new_empty(len(at_heads), self.W_V.shape[1])
        for own, at in gradients.where.items():
            looks = self.pattern[:, at.start : at.stop, at.start : at.stop]
            self._mix(looks.mT, gradients.of(own, at_heads), gradients.of(own, at_values))
        gradients.flat.addmm_(at_values, self.folded.T)

    def _mix(self, pattern: Pattern, given: Sequence[Float[Tensor, "n _"]], taken: Sequence[Float[Tensor, "n _"]]) -> None:
        """What stands at the heads at each position → what each position takes of all; shared values are given to all heads that share
        them, their gradients add up. `taken` may be the memory of `given`."""
        n_values = len(pattern) // self.n_shared
        n_parts = max(1, min(n_values, len(given) * given[0].numel() // MOST_MIXED))
        for some in torch.arange(n_values).tensor_split(n_parts):
            first, end = int(some[0]), int(some[-1]) + 1
            x = torch.stack([self._heads(each, first, end, n_values) for each in given], 1)
            looks = pattern[first * self.n_shared : end * self.n_shared]
            x = torch.bmm(looks, self._for_all_heads(x, len(looks)).flatten(2)).view(len(looks), *x.shape[1:])
            for each, there in zip(taken, x.unbind(1), strict=True):
                heads = self._heads(each, first, end, n_values)
                heads.copy_(there if len(there) == len(heads) else there.unflatten(0, (len(heads), -1)).sum(1))

    def forth_from(self, changes: Mapping[int, Float[Tensor, "n d_model"]]) -> dict[int, Rows]:
        """The same for changes that are at their own position alone → at all from there on: what each head makes of them, and that in its
        parts at the positions that look there."""
        values = parted(torch.cat(list(changes.values())) @ self.folded, changes)
        W_O = self.W_O.view(len(self.pattern), self.d_head, -1)
        made = {pos: torch.bmm(self._for_all_heads(self._by_head(each)), W_O) for pos, each in values.items()}
        return {pos: self._in_parts(self.pattern[:, pos:, pos], by_head) for pos, by_head in made.items()}

    def back_from(self, gradients: Mapping[int, Float[Tensor, "n d_model"]], first: int) -> dict[int, Rows]:
        """The same for gradients that are at their own position alone → at all from the first to there: two products instead of two at
        each position."""
        at_heads = parted(torch.cat(list(gradients.values())) @ self.W_O.T, gradients)
        W_V = self._for_all_heads(rearrange(self.folded, "d_model (head e) -> head e d_model", e=self.d_head))
        made = {pos: torch.bmm(self._by_head(each), W_V) for pos, each in at_heads.items()}
        return {pos: self._in_parts(self.pattern[:, pos, first : pos + 1], by_head) for pos, by_head in made.items()}

    def _in_parts(self, parts: Float[Tensor, "n_heads pos"], by_head: Float[Tensor, "n_heads n d_model"]) -> Rows:
        """At each position its part of what each head gave."""
        return (parts.T @ by_head.flatten(1)).view(parts.shape[1], *by_head.shape[1:])

    def _heads(self, x: Float[Tensor, "n _"], first: int, end: int, n: int) -> Float[Tensor, "heads n d_head"]:
        """Those that belong to some of the n values."""
        each = x.shape[1] // n
        return self._by_head(x[:, first * each : end * each])

    def _by_head(self, x: Float[Tensor, "n _"]) -> Float[Tensor, "heads n d_head"]:
        return x.unflatten(1, (-1, self.d_head)).transpose(0, 1)

    def _for_all_heads(self, of_values: Float[Tensor, "heads ..."], n_heads: int | None = None) -> Float[Tensor, "n_heads ..."]:
        return of_values if len(of_values) == (n_heads or len(self.pattern)) else of_values.repeat_interleave(self.n_shared, 0)

    @property
    def d_head(self) -> int:
        """The width of one head's values."""
        return len(self.W_O) // len(self.pattern)

    @property
    def n_shared(self) -> int:
        """How many heads read the same values."""
        return len(self.W_O) // self.W_V.shape[1]


@dataclass(frozen=True)
class FrozenBlock:
    """Attention, the norms around the MLP, and what the MLP read and gave on this prompt."""

    attention: FrozenAttention
    norm: FrozenNorm | None  # between the stream and what the MLP reads
    after: FrozenNorm | None  # between what the MLP gives and the stream
    is_parallel: bool  # the MLP reads what attention reads, not what it left
    mlp_in: dict[str, Stream]  # by the end of a hook name: what stands there on this prompt
    mlp_out: dict[str, Stream]


@dataclass(frozen=True)
class FrozenModel:
    """blocks, the final norm, the unembedding, and the stream's beginning: token embeddings, and what is added to them (positions)."""

    blocks: list[FrozenBlock]
    norm: FrozenNorm
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, "d_vocab"]
    embeddings: Stream
    added: Stream
    logits: Float[Tensor, "d_vocab"]  # the model's own, at the last position, a soft cap included


@torch.no_grad()
def freeze(model: "TransformerBridge", tokens: Tokens) -> FrozenModel:
    """The model, linear around this one prompt (1, pos), in float32 where its weights are narrower. Raises FrozenError where its own
    activations are not what the parts here give."""
    with InFloat32(model):
        found, logits = _read(model, tokens)
        blocks = [_freeze_block(model, layer, found) for layer in range(model.cfg.n_layers)]
        embeddings, added = _beginning(model, tokens, found)
        last = found["ln_final.hook_in"]
        norm = _freeze_norm(model.ln_final, last, found["ln_final.hook_out"], "ln_final")
    W_U, b_U = model.W_U.detach().to(last), model.b_U.detach().to(last)
    some = slice(None, None, 1 + len(b_U) // N_CHECKED)  # all would be read from memory once more, for a matrix that is right or another
    _check("unembedding", found["ln_final.hook_out"][-1] @ W_U[:, some] + b_U[some], _uncapped(model, logits)[some])
    return FrozenModel(blocks, norm, W_U, b_U, embeddings, added, logits)


def _read(model: "TransformerBridge", tokens: Tokens) -> tuple[dict[str, Tensor], Tensor]:
    """One forward pass, and what stood at each place that freezing needs: by hook name, without the batch of one."""
    ends = "hook_in", "attn.hook_in", "attn.hook_pattern", "attn.hook_out", "hook_attn_out", "ln2.hook_in", "ln2.hook_out", "mlp.hook_in"
    ends += "mlp.hook_out", "hook_mlp_out", "hook_out"
    wanted = [f"blocks.{layer}.{end}" for layer in range(model.cfg.n_layers) for end in ends] + ["ln_final.hook_in", "ln_final.hook_out"]
    found, logits = _noted(model, [*wanted, "embed.hook_out"], lambda: last_logits(model, tokens)[0])
    for name in ("attn.hook_pattern", "attn.hook_out", "mlp.hook_out"):
        missing = [layer for layer in range(model.cfg.n_layers) if f"blocks.{layer}.{name}" not in found]
        if missing:
            raise FrozenError(
                f"{name} of block {missing[0]} did not come up: this model's blocks are not attention and an MLP beside a stream"
            )
    return found, logits


def _noted(model: "TransformerBridge", wanted: Sequence[str], run: Callable[[], Any]) -> tuple[dict[str, Tensor], Any]:
    """What stands at hook points while the model runs, as far as they come up, and what the run gives."""
    found: dict[str, Tensor] = {}
    known = model.hook_dict  # put together anew at each access

    def keep(x: Any, name: str) -> None:
        found[name] = (x[0] if isinstance(x, tuple) else x).detach()[0]

    kept = [placed(model, name, lambda x, name=name: keep(x, name), known) for name in wanted if name in known]
    with alone(model), put(*kept):
        return found, run()


def _freeze_block(model: "TransformerBridge", layer: int, found: Mapping[str, Tensor]) -> FrozenBlock:
    here, block = f"blocks.{layer}", model.blocks[layer]
    at = {name.removeprefix(f"{here}."): x for name, x in found.items() if name.startswith(f"{here}.")}
    before, mlp_reads = at["hook_in"], at.get("ln2.hook_in", at["mlp.hook_in"])
    attention = _freeze_attention(block, at, here)
    middle = before + attention(before) + attention.constant
    norm = _freeze_norm(block.ln2, mlp_reads, at["ln2.hook_out"], f"{here}.ln2") if hasattr(block, "ln2") else None
    after = _freeze_norm(block.ln2_post, at["mlp.hook_out"], at["hook_mlp_out"], f"{here}.ln2_post") if hasattr(block, "ln2_post") else None
    is_parallel = _is_close(mlp_reads, before) and not _is_close(mlp_reads, middle)
    _check(f"{here}: what the MLP reads", mlp_reads, before if is_parallel else middle)
    mlp = at["mlp.hook_out"] if after is None else after(at["mlp.hook_out"]) + after.bias
    _check(f"{here}: its output", middle + mlp, at["hook_out"])
    normalized = {} if norm is None else {"ln2.hook_normalized": norm.without_gain()(mlp_reads)}
    mlp_in = {"hook_resid_mid": mlp_reads, "mlp.hook_in": at["mlp.hook_in"], **normalized}
    return FrozenBlock(attention, norm, after, is_parallel, mlp_in, {"mlp.hook_out": at["mlp.hook_out"], "hook_mlp_out": mlp})


def _freeze_attention(block: Any, at: Mapping[str, Tensor], here: str) -> FrozenAttention:
    before = at["hook_in"]
    norm = _freeze_norm(block.ln1, before, at["attn.hook_in"], f"{here}.ln1") if hasattr(block, "ln1") else None
    try:
        W_V = rearrange(block.attn.W_V.detach(), "head d_model e -> d_model (head e)").to(before)
        W_O = rearrange(block.attn.W_O.detach(), "head e d_model -> (head e) d_model").to(before).contiguous()
    except (AttributeError, RuntimeError, ValueError) as error:
        raise FrozenError(f"{here}: attention has no matrices of values and outputs to freeze ({error})") from None
    pattern = at["attn.hook_pattern"]
    before_it = (norm.gain, norm.is_centred) if norm else (None, False)
    pattern = pattern / norm.scale if norm else pattern
    constant = at["attn.hook_out"] - FrozenAttention(W_V, W_O, pattern, torch.zeros_like(before), *before_it)(before)
    _check(f"{here}: attention, but for its biases", constant, constant[:1].expand_as(constant), at["attn.hook_out"])
    if hasattr(block, "ln1_post"):
        after = _freeze_norm(block.ln1_post, at["attn.hook_out"], at["hook_attn_out"], f"{here}.ln1_post")
        W_O, pattern = W_O - W_O.mean(1, keepdim=True) if after.is_centred else W_O, pattern / after.scale[:, None]
        W_O, constant = W_O * after.gain, after(constant) + after.bias
    return FrozenAttention(W_V, W_O, pattern, constant, *before_it)


def _freeze_norm(norm: Any, x: Stream, y: Stream, name: str) -> FrozenNorm:
    """Gain, bias and centring are read off the norm with a probe, the denominators off this prompt; then all of it is checked."""
    probe = (
        torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
        - (x.shape[-1] - 1) / 2
        + 0.25 * (-1) ** torch.arange(x.shape[-1], device=x.device)
    )
    probe = (probe - probe.mean()) / (probe - probe.mean()).square().mean().sqrt()
    asked = torch.stack([PROBE * probe, -PROBE * probe, PROBE * (probe + 1)])[:, None]
    narrow = {name: weight.to(x) for name, weight in norm.named_parameters() if weight.dtype != x.dtype}
    there, back, moved = (functional_call(norm, narrow, (asked,)) if narrow else norm(asked))[:, 0]  # by itself, InFloat32 widens it not
    gain, bias, is_centred = (there - back) / 2 / probe, (there + back) / 2, _is_close(there, moved)
    centred = gain * (x - x.mean(-1, keepdim=True) if is_centred else x)
    scale = centred.square().sum(-1) / ((y - bias) * centred).sum(-1)
    frozen = FrozenNorm(gain, bias, scale, is_centred)
    _check(f"the norm {name}", frozen(x) + bias, y)
    return frozen


def _beginning(model: "TransformerBridge", tokens: Tokens, found: Mapping[str, Tensor]) -> tuple[Stream, Stream]:
    """The stream's beginning as token embeddings and what is added to them, whatever the tokens are."""
    stream, embedded = found["blocks.0.hook_in"], found.get("embed.hook_out")
    if embedded is None or embedded.shape != stream.shape:
        raise FrozenError("embed.hook_out is not what the first block reads: this model's stream does not begin with its tokens")
    factor = (stream * embedded).sum() / embedded.square().sum()
    if _is_close(factor * embedded, stream):  # no positions; Gemma's factor √d_model
        return stream, torch.zeros_like(stream)
    ends = "blocks.0.hook_in", "embed.hook_out"
    others, _ = _noted(model, ends, lambda: model.forward(tokens.flip(-1), return_type=None, stop_at_layer=1))
    added = stream - embedded
    _check("what is added to the embeddings", others[ends[0]] - others[ends[1]], added, stream)
    return embedded, added


def _uncapped(model: "TransformerBridge", logits: Tensor) -> Tensor:
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    return logits if not cap or cap <= 0 else cap * torch.atanh((logits / cap).double()).to(logits.dtype)


def _is_close(a: Tensor, b: Tensor, like: Tensor | None = None) -> bool:
    return bool((a - b).abs().max() <= CLOSE * (b if like is None else like).abs().max())


def _check(what: str, ours: Tensor, models: Tensor, like: Tensor | None = None) -> None:
    if not _is_close(ours, models, like):
        raise FrozenError(
            f"{what}: the frozen parts differ from the model by {(ours - models).abs().max():.2g} of {models.abs().max():.2g}; "
            "a graph of direct effects needs blocks of attention and an MLP that add to one stream"
        )
