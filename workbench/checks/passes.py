"""How the model passes on what it is given: hook points, the KV cache, and in which precision."""

from typing import TYPE_CHECKING

import torch

from workbench.checks.report import Finding, Verdict
from workbench.checks.subject import Subject
from workbench.model.cache import cached_step, kv_cache
from workbench.model.hooks import accepted, last_logits
from workbench.model.points import HookPointError, obeyed, point, probe_tokens, unwatched
from workbench.replay.precision import InFloat32, is_half, precision_note

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

RESIDUAL = ("hook_resid_pre", "hook_resid_post")
OTHERS = ("hook_resid_mid", "hook_attn_out", "hook_mlp_out", "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z")
OTHERS += ("attn.hook_attn_scores", "attn.hook_pattern", "mlp.hook_pre", "mlp.hook_post")
MOST_KINDS = 3  # of blocks: a model that alternates attention with something else has two
CACHE_LIMIT = 1e-3  # of the largest logit; float32 gives 1e-6, and kv_cache has refused what is no rounding of the model's own type


def hook_points(subject: Subject) -> Finding:
    """Which of the usual places hold an activation, and at which of them an edit is obeyed: in one block of each kind."""
    model = subject.model
    states = {f"blocks.{k}.{end}": _state(model, f"blocks.{k}.{end}") for k in kinds_of_blocks(model) for end in (*RESIDUAL, *OTHERS)}
    by = {state: [name for name, found in states.items() if found == state] for state in ("obeyed", "ignored", "silent", "lacking")}
    figure = f"{len(by['obeyed'])} of {len(states) - len(by['lacking'])} obeyed"
    said = []
    if by["ignored"]:
        said.append(f"Shown and then ignored: {', '.join(by['ignored'])}. An edit there is an error here, never an effect of 0.")
    if by["silent"]:
        said.append(f"Not one activation a pass: {', '.join(by['silent'])}.")
    stream = [name for name in states if name.endswith(RESIDUAL)]
    unusable = [name for name in stream if states[name] != "obeyed" or point(model, name).width is None]
    if len(unusable) == len(stream):
        where = f"Edits are obeyed at {', '.join(by['obeyed'][:3]) or 'no place'}."
        return Finding(Verdict.error, figure, " ".join(["No SAE can read this model's residual stream.", where, *said]))
    if unusable:
        said.append(f"No SAE can read {', '.join(unusable)}.")
    verdict = Verdict.warning if by["ignored"] or unusable else Verdict.ok
    return Finding(verdict, figure, " ".join(said) or "An activation stands there, and the model goes on with what is put in its place.")


def kinds_of_blocks(model: "TransformerBridge") -> list[int]:
    """A block of each kind, by the hook points that blocks have: of as many as are alike, the middle one."""
    kinds: dict[frozenset[str], list[int]] = {}
    for k in range(model.cfg.n_layers):
        own = frozenset(name.removeprefix(f"blocks.{k}.") for name in model.hook_dict if name.startswith(f"blocks.{k}."))
        kinds.setdefault(own, []).append(k)
    return sorted(blocks[len(blocks) // 2] for blocks in list(kinds.values())[:MOST_KINDS])


def _state(model: "TransformerBridge", hook_name: str) -> str:
    if hook_name not in model.hook_dict:
        return "lacking"
    try:
        if point(model, hook_name).n_fired != 1:
            return "silent"
    except HookPointError:  # a switch of TransformerLens's has to turn it on
        return "silent"
    return "obeyed" if obeyed(model, hook_name) else "ignored"


@torch.no_grad()
def cache(subject: Subject) -> Finding:
    """Are two tokens with a KV cache two tokens?"""
    model, known = subject.model, kv_cache(subject.model)
    if known.why_not:
        return Finding(Verdict.note, "not used", f"Texts are written without one, slower and right: {known.why_not}.")
    with unwatched(model):
        two = probe_tokens(model)[:1, :2]
        _, filled = cached_step(model, two[:, :1], None)
        found = cached_step(model, two[:, 1:], filled)[0].float()
        expected = model(two, **accepted(model, use_cache=False))[:, -1].float()
    by = float((found - expected).abs().max() / expected.abs().max())
    figure = f"logits differ by {by:.0e} of the largest" if by else "the same logits"
    limit = CACHE_LIMIT if model.cfg.dtype not in (torch.float16, torch.bfloat16) else 32 * torch.finfo(model.cfg.dtype).eps
    if by > limit:
        return Finding(Verdict.error, figure, "A text written with the cache is another one than without: do not steer this model.")
    return Finding(Verdict.ok, figure, "Two tokens with a KV cache are two tokens: texts are written with it.")


@torch.no_grad()
def precision(subject: Subject) -> Finding:
    """Of what type the weights are, and what that costs."""
    model, note = subject.model, precision_note(subject.model)
    if not note:
        dtype = str(next(model.original_model.parameters()).dtype).removeprefix("torch.")
        return Finding(Verdict.ok, dtype, "Weights and everything that is computed from them have this type.")
    if not is_half(model):
        return Finding(Verdict.warning, "quantized", f"{note} Small ones are lost in it: load the model unquantized to rank features.")
    tokens = probe_tokens(model)
    with unwatched(model):
        narrow = last_logits(model, tokens).float()
        with InFloat32(model):
            wide = last_logits(model, tokens).float()
    by = float((narrow - wide).abs().max() / wide.abs().max())
    narrow_words = "Losses, indexes and written texts have the weights' own rounding."
    return Finding(Verdict.note, f"logits in half precision are {by:.1%} off", f"{note} {narrow_words}")
