"""What measures a graph of transcoders on its model: features switched off where they are written, in one pass through all layers.

    without S    y' = y − Σ_{v ∈ S} act_v · W_dec[v]              act_v as it is there and then; errors of S: − (y − y_hat)
    S at value   y' = y − Σ_{v ∈ S} (act_v − value) · W_dec[v]
    S alone      y' = b_dec + x · W_skip + Σ_{v ∈ S} act_v · W_dec[v] + the error of the clean run

y: what the layer's transcoder predicts, x: what it reads. Of a cross-layer transcoder the sums go over the features of all layers that
write there. The start position is left as it is: it has no nodes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.circuits.graph.places import mean_entrance, three, three_columns
from workbench.circuits.metrics import ResolvedMetric
from workbench.model.hooks import hooked, last_logits, seen
from workbench.replay.between import STREAM
from workbench.replay.precision import InFloat32
from workbench.sae.dictionary import written
from workbench.sae.stack import Layer, Transcoders, predicted, stack_of, writers
from workbench.shapes import Tokens

Acts = dict[int, Float[Tensor, "pos d_sae"]]  # of the layers that have come up in this pass
Edit = Callable[[Tensor, Tensor, Acts], Tensor]  # (x, y, feature_acts) → y'


@dataclass(frozen=True)
class TranscoderLens:
    """The model and its transcoders at one prompt: what can be measured of a circuit of theirs."""

    model: Any
    transcoders: Transcoders
    tokens: Tokens
    metric: ResolvedMetric

    @cached_property
    def stack(self) -> list[Layer]:
        """The layers of features, from the lowest up."""
        return stack_of(self.transcoders)

    @property
    def saes(self) -> Mapping[str, Layer]:
        """hook name → whose decoder rows its features have, for groups of the same direction."""
        return {layer.hook_name_in: layer for layer in self.stack}

    def effect_of(self, nodes: pd.DataFrame, members: Sequence[str]) -> float:
        """metric(clean) − metric(without the members)."""
        some = nodes[nodes["node"].isin(set(members)) & nodes["kind"].isin(("feature", "error", "token"))]
        if not len(some):
            raise ValueError("only features, errors and tokens can be switched off: logits are the answer itself, constants the model")
        return self._metric({}) - self._without(some)

    def clamped(self, nodes: pd.DataFrame, members: Sequence[str], value: float) -> tuple[float, dict[str, Float[Tensor, "pos d_sae"]]]:
        """(the metric with the members' features at `value`, hook name → the activations then). Errors and tokens can be switched off
        only (value 0)."""
        acts: dict[str, Tensor] = {}
        metric = self._without(nodes[nodes["node"].isin(set(members)) & nodes["kind"].isin(("feature", "error", "token"))], value, acts)
        return metric, acts

    def faithfulness(self, nodes: pd.DataFrame) -> pd.DataFrame:
        """One row for all layers at once and one for each: where, alone (the metric with the graph's features alone), floor (with no
        feature at all), without (the graph's features), kept = alone / clean, kept_floor, lost = 1 − without / clean."""
        features, clean, errors = nodes[nodes["kind"] == "feature"], self._metric({}), self._clean_errors()
        rows = []
        all_layers = range(len(self.stack))
        for name, layers in [("all places", all_layers), *((self.stack[layer].hook_name_in, [layer]) for layer in all_layers)]:
            mine = features[features["layer"].isin(layers)]
            others = features[~features["layer"].isin(layers)]  # of a cross-layer transcoder: they write there, too, and stay
            alone = [
                self._metric({layer: self._alone(layer, pd.concat([some, others]), errors) for layer in layers})
                for some in (mine, mine.iloc[:0])
            ]
            rows.append((name, *alone, self._without(mine)))
        table = pd.DataFrame(rows, columns=["where", "alone", "floor", "without"])
        return table.assign(kept=table["alone"] / clean, kept_floor=table["floor"] / clean, lost=1 - table["without"] / clean)

    def _without(self, nodes: pd.DataFrame, value: float = 0.0, acts: dict[str, Tensor] | None = None) -> float:
        """The metric. acts: takes every feature's activation at every layer."""
        some = nodes[nodes["kind"] != "token"]
        masks = {layer: self._masks(layer, some[some["layer"] == layer]) for layer in range(len(self.stack))}
        is_changed = {layer: bool(off.any()) for layer, (off, _) in masks.items()}
        edits: dict[int, Edit] = {}
        for layer in range(len(self.stack)):
            below, is_error = writers(self.stack, layer), masks[layer][1]
            if acts is None and not is_error.any() and not any(is_changed[each] for each in below):
                continue

            def put(x: Tensor, y: Tensor, found: Acts, layer: int = layer, below: range = below, is_error: Tensor = is_error) -> Tensor:
                if acts is not None:
                    acts[self.stack[layer].hook_name_in] = found[layer]
                new = y
                for each in below:
                    if is_changed[each]:
                        new = new - written((found[each] - value) * masks[each][0], self.stack[each].W_decs[layer], y.dtype)
                return new - (y - predicted(self.stack, found, x, layer)) * is_error[:, None]

            edits[layer] = put
        return self._metric(edits, nodes.loc[nodes["kind"] == "token", "pos"].tolist())

    def _alone(self, layer: int, nodes: pd.DataFrame, errors: Mapping[int, Tensor]) -> Edit:
        below = writers(self.stack, layer)
        masks = {each: self._masks(each, nodes[nodes["layer"] == each])[0] for each in below}

        def made(x: Tensor, y: Tensor, found: Acts) -> Tensor:
            alone = predicted(self.stack, {each: found[each] * masks[each] for each in below}, x, layer) + errors[layer]
            return torch.cat([y[:1], alone[1:]])

        return made

    def _masks(self, layer: int, nodes: pd.DataFrame) -> tuple[Bool[Tensor, "pos d_sae"], Bool[Tensor, "pos"]]:
        """Which features, and at which positions the error."""
        mask = torch.zeros(self.tokens.shape[1], self.stack[layer].d_sae, dtype=torch.bool, device=self.tokens.device)
        features = nodes[nodes["kind"] == "feature"]
        mask[features["pos"].tolist(), features["feature"].tolist()] = True
        is_error = torch.zeros(self.tokens.shape[1], dtype=torch.bool, device=self.tokens.device)
        is_error[nodes.loc[nodes["kind"] == "error", "pos"].tolist()] = True
        return mask, is_error

    def _clean_errors(self) -> dict[int, Float[Tensor, "pos d_out"]]:
        errors: dict[int, Tensor] = {}

        def noting(layer: int) -> Edit:
            def note(x: Tensor, y: Tensor, found: Acts) -> Tensor:
                errors[layer] = y - predicted(self.stack, found, x, layer)
                return y

            return note

        self._metric({layer: noting(layer) for layer in range(len(self.stack))})
        return errors

    @torch.no_grad()
    def _metric(self, edits: Mapping[int, Edit], token_pos: Sequence[int] = ()) -> float:
        """The metric with y replaced by edits[layer](x, y, feature_acts), and with no token known at some positions."""
        with ExitStack() as stack:
            stack.enter_context(InFloat32(self.model))
            if len(token_pos):
                others = mean_entrance(self.model, self.tokens)
                at = torch.tensor(list(token_pos), device=self.tokens.device)
                stack.enter_context(hooked(self.model, STREAM, lambda x: x.index_copy(1, at, others[at][None].to(x.dtype))))
            found: Acts = {}
            read_too = {below for layer in edits for below in writers(self.stack, layer)}
            for layer in sorted(read_too):
                self._put(stack, layer, edits.get(layer), found)
            logits = three(three_columns(self.metric).of(last_logits(self.model, self.tokens))).double()[0]
        return float(logits[0] - logits[2 if self.metric.baseline is None else 1])

    def _put(self, stack: ExitStack, layer: int, edit: Edit | None, found: Acts) -> None:
        """x is read and encoded at the one place, y replaced at the other, in the same pass."""
        it, read = self.stack[layer], [torch.empty(0)]

        def note(x: Tensor) -> None:
            read[0] = x.flatten(2)[0].to(it.b_dec.dtype)  # float32 at least: 16 bits round features, not what is around them
            found[layer] = it.encode(read[0])

        stack.enter_context(seen(self.model, it.hook_name_in, note))
        if edit is not None:
            put = edit

            def new(y: Tensor) -> Tensor:
                return put(read[0], y.flatten(2)[0].to(it.b_dec.dtype), found).view(y.shape).to(y.dtype)

            stack.enter_context(hooked(self.model, it.hook_name_out, new))
