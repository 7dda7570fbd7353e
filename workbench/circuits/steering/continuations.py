"""What steering gives back: one prompt's continuations side by side, unsteered and under every setting, and responses against strength."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Context
from typing import Any

import numpy as np
import pandas as pd

UNLIKELY = 5.0  # times the unsteered perplexity: a text that the model itself would hardly write
SANE = 10.0  # |strength| up to which the paper's texts stayed readable; ±100 gave nonsense (Scaling Monosemanticity)


def safe_strength(x_norm: float, added: float) -> float:
    """Up to where texts usually stay readable: ±10, and less where the feature would outweigh the whole activation. added: how long it is
    at strength 1, max_act times the norm of its decoder row."""
    return min(SANE, x_norm / added) if added > 0 else SANE


def round_down(strength: float) -> float:
    """A positive strength as people set it, never above it: in the halves of the slider, below one half to one digit."""
    if strength >= 0.5:
        return math.floor(2 * strength) / 2
    return float(Context(prec=1, rounding=ROUND_DOWN).create_decimal(repr(float(strength))))


@dataclass(frozen=True)
class Setting:
    """What is done to the model while it writes."""

    kind: str  # "unsteered", "features" or "vector"
    strength: float = float("nan")  # of the feature that is varied, or the vector's scale
    strengths: Mapping[int, float] = field(default_factory=dict)  # of every clamped feature

    @property
    def name(self) -> str:
        """ "1234 × 10" """
        if self.kind == "vector":
            return f"vector × {self.strength:.3g}"
        return ", ".join(f"{feature} × {strength:g}" for feature, strength in self.strengths.items()) or self.kind


@dataclass(frozen=True)
class Continuation:
    """What the model wrote under one setting, and what the model as it is makes of it."""

    setting: Setting
    sample: int
    text: str
    str_tokens: list[str]
    log_probs: list[float]  # of each token, by the unsteered model
    activations: list[float]  # the steered features' own, summed, at each token as the unsteered model reads it
    next_tokens: dict[str, float]  # probabilities right after the prompt: the likeliest, and those that were asked for

    @property
    def perplexity(self) -> float:
        """exp(−mean log-probability) under the unsteered model; NaN for an empty text."""
        return float(np.exp(-np.mean(self.log_probs))) if self.log_probs else float("nan")

    @property
    def activation(self) -> float:
        """The mean of `activations`; NaN for an empty text."""
        return float(np.mean(self.activations)) if self.activations else float("nan")


@dataclass(frozen=True, repr=False, eq=False)
class Steering:
    """One prompt continued unsteered, under every setting, and by the steering vector if there was one."""

    prompt: str
    continuations: list[Continuation]
    max_act: dict[int, float]  # feature → the activation that strength 1 stands for
    x_norm: float = float(
        "inf"
    )  # median norm of the activation that is steered (`steered_stream`), over reference texts where there are any
    row_norms: dict[int, float] = field(default_factory=dict)  # feature → the norm of its decoder row, where that is not 1
    labels: dict[int, str] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()  # whose probability was asked for
    hook_name: str = ""
    model_name: str = ""
    sae_name: str = ""
    of_sae: tuple[str, ...] = ()  # what to know of all activations of this SAE on this model (reading_notes)
    why_no_cache: str = ""  # why the texts were written without a KV cache, each token by a pass over the whole text

    @property
    def table(self) -> pd.DataFrame:
        """One row a continuation. activation: the steered features' own mean over the text; p(token): right after the prompt."""
        return pd.DataFrame([self._row(each) for each in self.continuations])

    def _row(self, each: Continuation) -> dict[str, Any]:
        setting, probabilities = each.setting, {f"p({token})": each.next_tokens[token] for token in self.tokens}
        about = {"kind": setting.kind, "name": setting.name, "strength": setting.strength, "sample": each.sample, "text": each.text}
        return about | {"perplexity": each.perplexity, "activation": each.activation} | probabilities

    def dose(self, concept: Callable[[str], float] | None = None) -> pd.DataFrame:
        """Response against strength, one row a setting: kind, name, strength, and as means over the samples the chosen tokens'
        probabilities and `concept` of the texts (a share, 0 to 1) with its standard error."""
        table, responses = self.table, [f"p({token})" for token in self.tokens]
        if concept is not None:
            table["concept"] = [float(concept(text)) for text in table["text"]]
            responses.append("concept")
        if not responses:
            raise ValueError("no response to show: follow tokens with steer(…, tokens=[…]), or give concept=, a function of the text")
        groups = table.groupby(["kind", "name"], sort=False)
        found = groups[["strength", *responses]].mean()
        if concept is not None:
            found["standard_error"] = groups["concept"].sem()
        return found.reset_index()

    def plot_dose(self, concept: Callable[[str], float] | None = None, concept_name: str = "share of the concept"):
        """Plotly: the responses of `dose` against strength; the unsteered text and the steering vector as level lines."""
        from widgets.figures.act import plot_dose

        return plot_dose(self.dose(concept).rename(columns={"concept": concept_name}))

    @property
    def notes(self) -> list[str]:
        """Strengths at which texts usually turn into nonsense: beyond ±10, or where the feature outweighs the whole activation; texts that
        did: many times as unlikely as the unsteered one; and why writing took long, if it was without a cache."""
        found = [*self.of_sae, *([f"written without a KV cache, which is slower: {self.why_no_cache}"] if self.why_no_cache else [])]
        for feature, most in self.max_act.items():
            sane = safe_strength(self.x_norm, most * self.row_norms.get(feature, 1.0))
            strengths = {each.setting.strengths.get(feature, 0.0) for each in self.continuations}
            if beyond := sorted(k for k in strengths if abs(k) > sane):
                why = "" if sane == SANE else f": there it outweighs the whole activation, of norm {self.x_norm:.3g}"
                shown = ", ".join(f"{k:g}" for k in beyond)
                found.append(f"feature {feature} at strength {shown}: beyond ±{round_down(sane):g} texts usually turn into nonsense{why}")
        plain = [each.perplexity for each in self.continuations if each.setting.kind == "unsteered" and each.str_tokens]
        for name, perplexities in self._steered().items():
            if plain and (came := float(np.median(perplexities))) > UNLIKELY * float(np.median(plain)):
                said = f"{came:,.0f}" if came >= 100 else f"{came:.3g}"  # no power of ten
                found.append(f"{name} wrote a text of perplexity {said}, unsteered {np.median(plain):.3g}: likely nonsense, try less")
        return found

    def _steered(self) -> dict[str, list[float]]:
        """The perplexities of each setting's texts."""
        found: dict[str, list[float]] = {}
        for each in self.continuations:
            if each.setting.kind != "unsteered" and each.str_tokens:
                found.setdefault(each.setting.name, []).append(each.perplexity)
        return found

    def _repr_html_(self) -> str:
        from widgets.html.act import steering_html

        return steering_html(self)

    def __repr__(self) -> str:
        what = [f"{f} {self.labels.get(f, '')}".rstrip() + f" (max_act {value:.3g})" for f, value in self.max_act.items()]
        lines = [f"Steering of {self.prompt!r} by {', '.join(what) or 'a vector'}"]
        lines += [f"  {each.setting.name:<16} perplexity {each.perplexity:8.2f}  {each.text!r}" for each in self.continuations]
        return "\n".join(lines + [f"  {note}" for note in self.notes])
