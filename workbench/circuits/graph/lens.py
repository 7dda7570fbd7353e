"""What measures a circuit on its model: sets of nodes switched off, at all places of one pass at once.

    without S    at every place x' = x − Σ_{v ∈ S} act_v · W_dec[v]                  act_v as it is there and then
    S at value   at every place x' = x − Σ_{v ∈ S} (act_v − value) · W_dec[v]
    S alone      at one place   x' = b_dec + Σ_{v ∈ S} act_v · W_dec[v]
                 at all places  the same + the error of the clean run there

An activation is read off x after the places before have been changed: a feature that is already gone is not taken away a second time.
With S alone at all places the errors are held as they were (Ameisen et al. 2025 hold them so): of the atlas's SAEs behind block 0 each
alone keeps the answer, all six in a row without errors none of it, because each loses a little length and the next one's features starve.
The errors can carry an answer by themselves, so what they keep without any feature stands beside. The start token is left as it is.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.circuits.graph.places import mean_entrance, three, three_columns
from workbench.circuits.metrics import ResolvedMetric
from workbench.model.hooks import hooked, last_logits
from workbench.model.tokens import is_start_token
from workbench.replay.between import STREAM
from workbench.replay.precision import InFloat32
from workbench.sae.sae import SAE
from workbench.shapes import Tokens


@dataclass(frozen=True)
class Lens:
    """The model and its SAEs at one prompt: what can still be measured of a circuit."""

    model: Any
    saes: Mapping[str, SAE]
    tokens: Tokens
    metric: ResolvedMetric

    def effect_of(self, nodes: pd.DataFrame, members: Sequence[str]) -> float:
        """metric(clean) − metric(without the members)."""
        some = nodes[nodes["node"].isin(set(members)) & (nodes["kind"] != "logit")]
        if not len(some):
            raise ValueError("a group of logit nodes only cannot be switched off: they are the answer itself")
        return self._metrics(self._logits({}))[0] - self._metrics(self._logits(self._without(some)))[0]

    def clamped(self, nodes: pd.DataFrame, members: Sequence[str], value: float) -> tuple[float, dict[str, Float[Tensor, "pos d_sae"]]]:
        """(the metric with the members' features at `value`, hook name → the activations then). Activations are read at each place before
        its own features are put to their value: what arrives there. Errors and tokens can be switched off only (value 0)."""
        acts: dict[str, Tensor] = {}
        edits = self._without(nodes[nodes["node"].isin(set(members)) & (nodes["kind"] != "logit")], value, acts)
        return self._metrics(self._logits(edits))[0], acts

    def faithfulness(self, nodes: pd.DataFrame) -> pd.DataFrame:
        """One row for all places at once and one for each: where, alone (the metric with the graph's features alone), floor (with no
        feature at all), without (the graph's features), kept = alone / clean, kept_floor, lost = 1 − without / clean."""
        features = nodes[nodes["kind"] == "feature"]
        errors, clean = self._clean_errors(), self._metrics(self._logits({}))[0]
        rows = []
        for where in ("all places", *self.saes):
            some, mine = (
                (self.saes, features) if where == "all places" else ({where: self.saes[where]}, features[features["hook_name"] == where])
            )
            held = errors if where == "all places" else {}
            edits = self._only(some, mine, held), self._only(some, mine.iloc[:0], held), self._without(mine)
            rows.append((where, *(self._metrics(self._logits(each))[0] for each in edits)))
        table = pd.DataFrame(rows, columns=["where", "alone", "floor", "without"])
        return table.assign(kept=table["alone"] / clean, kept_floor=table["floor"] / clean, lost=1 - table["without"] / clean)

    def _metrics(self, logits: Float[Tensor, "1 3"]) -> tuple[float, float]:
        answer, baseline, mean = logits[0].tolist()
        return answer - (mean if self.metric.baseline is None else baseline), answer - mean

    @torch.no_grad()
    def _logits(self, edits: Mapping[str, Any]) -> Float[Tensor, "1 3"]:
        """The three logits with x replaced by edits[hook name](x) at every place."""
        with InFloat32(self.model), ExitStack() as stack:
            for name, edit in edits.items():
                stack.enter_context(hooked(self.model, name, edit))
            return three(three_columns(self.metric).of(last_logits(self.model, self.tokens))).double()

    def _without(self, nodes: pd.DataFrame, value: float = 0.0, acts: dict[str, Tensor] | None = None) -> dict[str, Any]:
        """acts: takes what is read at every place."""
        edits: dict[str, Any] = {}
        tokens = nodes[nodes["kind"] == "token"]
        if len(tokens):
            pos = torch.tensor(tokens["pos"].tolist(), device=self.tokens.device)
            others = mean_entrance(self.model, self.tokens)
            edits[STREAM] = lambda x: _put(x, pos, others[pos])
        for name, sae in self.saes.items():
            if acts is not None:
                edits[name] = _after(edits.get(name), partial(_noted, sae=sae, name=name, acts=acts))
            mine = nodes[nodes["hook_name"].eq(name) & nodes["kind"].isin(("feature", "error"))]
            if len(mine):
                put = partial(_clamped, sae=sae, which=self._mask(mine, sae), value=value, errors=self._errors(mine))
                edits[name] = _after(edits.get(name), put)
        return edits

    def _only(self, saes: Mapping[str, SAE], nodes: pd.DataFrame, errors: Mapping[str, Tensor]) -> dict[str, Any]:
        is_start = is_start_token(self.model, self.tokens)[0]
        edits = {}
        for name, sae in saes.items():
            on = self._mask(nodes[nodes["hook_name"] == name], sae)
            edits[name] = partial(_alone, sae=sae, on=on, error=errors.get(name), is_start=is_start)
        return edits

    @torch.no_grad()
    def _clean_errors(self) -> dict[str, Tensor]:
        """What each SAE does not explain on the clean prompt: hook name → (pos, d_in)."""
        errors: dict[str, Tensor] = {}

        def note(name: str, sae: SAE, x: Tensor) -> None:
            flat = x.flatten(2)[0]
            errors[name] = sae.beside(flat) - sae(flat.to(sae.W_dec.dtype))

        with InFloat32(self.model), ExitStack() as stack:
            for name, sae in self.saes.items():
                stack.enter_context(hooked(self.model, name, lambda x, name=name, sae=sae: note(name, sae, x)))
            last_logits(self.model, self.tokens)
        return errors

    def _mask(self, nodes: pd.DataFrame, sae: SAE) -> Bool[Tensor, "pos d_sae"]:
        mask = torch.zeros(self.tokens.shape[1], sae.cfg.d_sae, dtype=torch.bool, device=self.tokens.device)
        features = nodes[nodes["kind"] == "feature"]
        mask[features["pos"].tolist(), features["feature"].tolist()] = True
        return mask

    def _errors(self, nodes: pd.DataFrame) -> Bool[Tensor, "pos"]:
        mask = torch.zeros(self.tokens.shape[1], dtype=torch.bool, device=self.tokens.device)
        mask[nodes.loc[nodes["kind"] == "error", "pos"].tolist()] = True
        return mask


def _noted(x: Tensor, sae: SAE, name: str, acts: dict[str, Tensor]) -> Tensor:
    """x as it is; its features' activations are kept."""
    acts[name] = sae.encode(x.flatten(2)[0].to(sae.W_dec.dtype))
    return x


def _clamped(x: Tensor, sae: SAE, which: Bool[Tensor, "pos d_sae"], value: float, errors: Bool[Tensor, "pos"]) -> Tensor:
    """x (1, pos, …) with features at a value, and the error gone where asked."""
    flat = sae.beside(x.flatten(2)[0])
    feature_acts = sae.encode(flat.to(sae.W_dec.dtype))
    change = sae.added((feature_acts - value) * which, flat)
    if errors.any():
        change = change + (flat - sae.decode(feature_acts)) * errors[:, None]
    return x - change.view_as(x[0]).to(x.dtype)


def _alone(
    x: Tensor, sae: SAE, on: Bool[Tensor, "pos d_sae"], error: Float[Tensor, "pos d_in"] | None, is_start: Bool[Tensor, "pos"]
) -> Tensor:
    """x (1, pos, …) made of some features, and of the error that is given; the start token's as it is."""
    flat = sae.beside(x.flatten(2)[0])
    made = sae.beside(sae.decode(sae.encode(flat.to(sae.W_dec.dtype)) * on))
    made = made if error is None else made + error
    return torch.where(is_start[:, None], flat, made).view_as(x[0])[None].to(x.dtype)


def _put(x: Tensor, pos: Tensor, value: Tensor) -> Tensor:
    x = x.clone()
    x[0, pos] = value.to(x.dtype).view(len(pos), *x.shape[2:])
    return x


def _after(inner: Any, edit: Any) -> Any:
    return edit if inner is None else lambda x: edit(inner(x))
