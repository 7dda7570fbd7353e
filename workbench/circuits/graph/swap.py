"""Swap one thing for another inside the model: switch off the group of California, switch on that of Texas. Does it say " Austin"?

    x' = x − Σ_{off} act · W_dec + Σ_{on} level · W_dec          at one hook point and one position, the last by default

level: the activation that the feature has where it occurs: in prompts of its own (`source`), at their last token. Measured at each place,
each alone, and beside it the control: the same lengths along random other features' directions. A swap that only breaks the answer makes
its probability fall; one that means what it says makes another one's rise.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.depth.layers import SAEs, by_layer
from workbench.circuits.graph.groups import concept
from workbench.given import on_prompt
from workbench.model.chat import Chat, written
from workbench.model.hooks import hooked, last_logits
from workbench.model.points import place as block_of
from workbench.model.tokens import answer_token, to_str_tokens, to_tokens
from workbench.replay.precision import InFloat32, wide
from workbench.sae.config import checked_feature
from workbench.sae.sae import SAE

Members = str | Iterable[str] | Mapping[str, Iterable[int]]  # labels (concepts), or hook name → features
Levels = dict[str, dict[int, float]]  # hook name → feature → activation


@dataclass(frozen=True, repr=False, eq=False)
class Swap:
    """`table`: a row a place: hook_name, layer, answer (the most probable token then), probability (of the wanted token), before, original
    (of the first answer), control (of the wanted token, random features in place of these), control_answer, n_off, n_on."""

    prompt: str
    wanted: str
    before: str  # the answer without a swap
    table: pd.DataFrame
    off: Levels
    on: Levels
    str_tokens: list[str] = field(repr=False, default_factory=list)

    @property
    def best(self) -> pd.Series:
        """The place where the wanted token is most probable."""
        return self.table.loc[self.table["probability"].idxmax()]

    @property
    def answer(self) -> str:
        """The model's first token with the swap at the best place."""
        return str(self.best["answer"])

    def _repr_html_(self) -> str:
        from widgets.html.circuit import swap_html

        return swap_html(self)

    def __repr__(self) -> str:
        lines = [f"Swap on {self.prompt!r}: {self.before!r} before; P({self.wanted!r}) and the first token after"]
        for row in self.table.itertuples():
            lines.append(f"  {row.hook_name:<26} {row.before:.3f} → {row.probability:.3f}  {row.answer!r}  (control {row.control:.3f})")
        return "\n".join(lines)


@torch.no_grad()
def swap(  # noqa: PLR0913 a notebook's call
    bench: Any,
    saes: SAEs,
    prompt: str | Chat,
    off: Members,
    on: Members,
    *,
    wanted: str | None = None,
    source: str | Sequence[str] | None = None,
    pos: int | None = None,
    labels: Mapping[str, Mapping[int, str]] | None = None,
    seed: int = 0,
) -> Swap:
    """Features of `off` set to 0 and those of `on` to the activation they have in `source`, at each place alone.

    off, on: a label such as "state:California", several, or {hook name: features}. source: prompts in which the "on" side occurs; without
    one the bench's index is asked (only for the SAE that it is of). wanted: the token to follow; without one what the model says after
    source's first prompt, or says most with the swap. Raises ValueError for a feature that never occurs, or a label that no feature has.
    """
    model, layers = bench.model, by_layer(bench.model, saes)
    known = {name: dict(found) for name, found in (labels or {}).items() if name in layers}
    prompt = written(model, prompt)
    tokens = to_tokens(model, prompt)
    pos = tokens.shape[1] - 1 if pos is None else on_prompt(pos, tokens.shape[1])
    off_features, on_features = (_features(layers, known, members, name) for members, name in ((off, "off"), (on, "on")))
    prompts = [source] if isinstance(source, str) else list(source or ())
    levels = _levels(bench, layers, on_features, prompts)
    acts = _activations(model, layers, tokens)
    gone = {name: {f: float(acts[name][pos, f]) for f in features} for name, features in off_features.items()}
    with InFloat32(model):
        clean = last_logits(model, tokens)[0].softmax(-1)
    token = _wanted(model, wanted, prompts)
    rows, after = [], {}
    for name, sae in layers.items():
        if not gone.get(name) and not levels.get(name):
            continue
        change = _change(sae, acts[name][pos], gone.get(name, {}), levels.get(name, {}))
        control = _control(sae, acts[name][pos], change, seed)
        after[name] = _probabilities(model, tokens, name, pos, change), _probabilities(model, tokens, name, pos, control)
    token = int(torch.stack([p for p, _ in after.values()]).amax(0).masked_fill(_one(clean), 0).argmax()) if token is None else token
    for name, (with_swap, with_control) in after.items():
        values = with_swap[token], clean[token], with_swap[clean.argmax()], with_control[token]
        rows.append((name, block_of(name)[0], int(with_swap.argmax()), *map(float, values), int(with_control.argmax())))
    names = ["hook_name", "layer", "answer", "probability", "before", "original", "control", "control_answer"]
    table = pd.DataFrame(rows, columns=names)
    for column in ("answer", "control_answer"):
        table[column] = to_str_tokens(model, torch.tensor(table[column].to_numpy(copy=True)))
    table["n_off"] = [sum(value > 0 for value in gone.get(name, {}).values()) for name in table["hook_name"]]
    table["n_on"] = [len(levels.get(name, {})) for name in table["hook_name"]]
    first = to_str_tokens(model, torch.stack([clean.argmax(), torch.tensor(token, device=clean.device)]))
    return Swap(str(prompt), first[1], first[0], table, gone, levels, to_str_tokens(model, tokens[0]))


def _change(sae: SAE, acts: Float[Tensor, "d_sae"], gone: Mapping[int, float], levels: Mapping[int, float]) -> Float[Tensor, "d_in"]:
    """What is added to x: a feature that is in both sides goes to its level."""
    acts = wide(acts)  # of a 16-bit SAE: what it writes is not rounded once more
    features = list(dict.fromkeys([*gone, *levels]))
    values = acts.new_tensor([levels.get(feature, 0.0) for feature in features])
    return (values - acts[features]) @ sae.W_dec[features].to(acts)


def _control(sae: SAE, acts: Float[Tensor, "d_sae"], change: Float[Tensor, "d_in"], seed: int) -> Float[Tensor, "d_in"]:
    """As long a change: random active features off, random others on."""
    generator = np.random.default_rng(seed)
    n = 4
    active, silent = acts.nonzero()[:, 0].tolist(), (acts == 0).nonzero()[:, 0].tolist()
    off, on = (generator.choice(some, min(n, len(some)), replace=False).tolist() for some in (active, silent))
    direction = sae.W_dec[on].sum(0) - acts[off] @ sae.W_dec[off] / max(float(acts[off].mean()) if off else 1.0, 1e-9)
    return direction * change.norm() / direction.norm().clamp_min(1e-12)


def _probabilities(model: Any, tokens: Tensor, hook_name: str, pos: int, change: Float[Tensor, "d_in"]) -> Float[Tensor, "d_vocab"]:
    def put(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, pos] += change.to(x.dtype).view(x.shape[2:])
        return x

    with InFloat32(model), hooked(model, hook_name, put):
        return last_logits(model, tokens)[0].softmax(-1)


def _features(layers: Mapping[str, SAE], labels: Mapping[str, Mapping[int, str]], members: Members, side: str) -> dict[str, list[int]]:
    """hook name → features."""
    if isinstance(members, Mapping):
        for name, features in members.items():
            if name not in layers:
                raise ValueError(f"{side}: there is no SAE at {name}; there are {', '.join(layers)}")
            for feature in features:
                checked_feature(feature, layers[name].cfg.d_sae, f"the SAE at {name}")
        found = {name: list(dict.fromkeys(features)) for name, features in members.items()}
    else:
        wanted = {members} if isinstance(members, str) else set(members)
        concepts = {name: {feature: concept(label) for feature, label in some.items()} for name, some in labels.items() if name in layers}
        known = {each for some in concepts.values() for each in some.values()}
        if missing := sorted(wanted - known):
            near = difflib.get_close_matches(missing[0], known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "; give {hook name: features} instead"
            raise ValueError(f"{side}: no feature of these SAEs has the label {missing[0]!r}{hint}")
        found = {name: [feature for feature, label in some.items() if label in wanted] for name, some in concepts.items()}
    if not any(found.values()):
        raise ValueError(f"{side} is empty: expected a label, or one feature at least")
    return found


def _levels(bench: Any, layers: Mapping[str, SAE], on: Mapping[str, Sequence[int]], prompts: Sequence[str]) -> Levels:
    """The mean activation of each feature at the last token of the prompts, where it is active; without prompts the index's maximum."""
    levels: Levels = {name: {} for name in on}
    if prompts:
        for each in prompts:
            acts = _activations(bench.model, layers, to_tokens(bench.model, each))
            for name, features in on.items():
                for feature in features:
                    levels[name][feature] = levels[name].get(feature, 0.0) + float(acts[name][-1, feature]) / len(prompts)
        levels = {name: {feature: value for feature, value in found.items() if value > 0} for name, found in levels.items()}
        if not any(levels.values()):
            raise ValueError("the features to switch on are active nowhere at the end of source: give prompts in which they occur")
        return levels
    if bench.index is None or bench.sae.reads not in on:
        raise ValueError("what activation should the features have? Give source=, a prompt in which they occur")
    name = bench.sae.reads
    for feature in on[name]:
        value = float(bench.index.feature(feature).max_act)
        if not value > 0:
            raise ValueError(f"feature {feature} never occurs in the index's texts: it has no activation to be switched on at")
        levels[name][feature] = value
    return levels


def _activations(model: Any, layers: Mapping[str, SAE], tokens: Tensor) -> dict[str, Float[Tensor, "pos d_sae"]]:
    found: dict[str, Tensor] = {}

    def note(name: str, sae: SAE, x: Tensor) -> None:
        found[name] = sae.encode(x.flatten(2)[0].to(sae.W_dec.dtype))

    with InFloat32(model), ExitStack() as stack:
        for name, sae in layers.items():
            stack.enter_context(hooked(model, name, lambda x, name=name, sae=sae: note(name, sae, x)))
        last_logits(model, tokens)
    return found


def _wanted(model: Any, wanted: str | None, prompts: Sequence[str]) -> int | None:
    if wanted is not None:
        return answer_token(model, wanted)
    with InFloat32(model):  # in 16 bits several tokens are likeliest
        return int(last_logits(model, to_tokens(model, prompts[0]))[0].argmax()) if prompts else None


def _one(clean: Float[Tensor, "d_vocab"]) -> Tensor:
    """The first answer: what follows it is looked for elsewhere."""
    return torch.arange(len(clean), device=clean.device) == clean.argmax()
