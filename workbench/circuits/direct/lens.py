"""What measures a graph of transcoders on its model: features switched off where they are written, in one pass through all layers.

    without S    y' = y − Σ_{v ∈ S} act_v · W_dec[v]              act_v as it is there and then; errors of S: − (y − y_hat)
    S at value   y' = y − Σ_{v ∈ S} (act_v − value) · W_dec[v]
    S alone      y' = b_dec + x · W_skip + Σ_{v ∈ S} act_v · W_dec[v] + the error of the clean run

y: what the layer's transcoder predicts, x: what it reads. The start position is left as it is: it has no nodes.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.circuits.graph.places import mean_entrance, three, three_columns
from workbench.circuits.metrics import ResolvedMetric
from workbench.model.hooks import hooked, last_logits, seen
from workbench.replay.between import STREAM
from workbench.sae.transcoder import Transcoder
from workbench.shapes import Tokens

Edit = Any  # (x, y, transcoder) → y'


@dataclass(frozen=True)
class TranscoderLens:
    """The model and its transcoders at one prompt: what can be measured of a circuit of theirs."""

    model: Any
    transcoders: Mapping[int, Transcoder]
    tokens: Tokens
    metric: ResolvedMetric

    @property
    def saes(self) -> Mapping[str, Transcoder]:
        """hook name → whose decoder rows its features have, for groups of the same direction."""
        return {each.cfg.hook_name_in: each for each in self.transcoders.values()}

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
        for where in ("all places", *self.transcoders):
            layers = list(self.transcoders) if where == "all places" else [where]
            mine = features[features["layer"].isin(layers)]
            alone = [self._metric({layer: self._alone(layer, some, errors) for layer in layers}) for some in (mine, mine.iloc[:0])]
            name = where if isinstance(where, str) else self.transcoders[where].cfg.hook_name_in
            rows.append((name, *alone, self._without(mine)))
        table = pd.DataFrame(rows, columns=["where", "alone", "floor", "without"])
        return table.assign(kept=table["alone"] / clean, kept_floor=table["floor"] / clean, lost=1 - table["without"] / clean)

    def _without(self, nodes: pd.DataFrame, value: float = 0.0, acts: dict[str, Tensor] | None = None) -> float:
        """The metric. acts: takes every feature's activation at every layer."""
        edits: dict[int, Edit] = {}
        for layer in self.transcoders:
            mine = nodes[(nodes["layer"] == layer) & (nodes["kind"] != "token")]
            if not len(mine) and acts is None:
                continue
            off, is_error = self._masks(layer, mine)

            def put(x: Tensor, y: Tensor, each: Transcoder, off: Tensor = off, is_error: Tensor = is_error) -> Tensor:
                feature_acts = each.encode(x)
                if acts is not None:
                    acts[each.cfg.hook_name_in] = feature_acts
                return y - ((feature_acts - value) * off) @ each.W_dec - (y - each.decode(feature_acts, x)) * is_error[:, None]

            edits[layer] = put
        return self._metric(edits, nodes.loc[nodes["kind"] == "token", "pos"].tolist())

    def _alone(self, layer: int, nodes: pd.DataFrame, errors: Mapping[int, Tensor]) -> Edit:
        on, _ = self._masks(layer, nodes)

        def made(x: Tensor, y: Tensor, each: Transcoder) -> Tensor:
            found = each.decode(each.encode(x) * on, x) + errors[layer]
            return torch.cat([y[:1], found[1:]])

        return made

    def _masks(self, layer: int, nodes: pd.DataFrame) -> tuple[Bool[Tensor, "pos d_sae"], Bool[Tensor, "pos"]]:
        """Which features, and at which positions the error."""
        mask = torch.zeros(self.tokens.shape[1], self.transcoders[layer].cfg.d_sae, dtype=torch.bool, device=self.tokens.device)
        features = nodes[nodes["kind"] == "feature"]
        mask[features["pos"].tolist(), features["feature"].tolist()] = True
        is_error = torch.zeros(self.tokens.shape[1], dtype=torch.bool, device=self.tokens.device)
        is_error[nodes.loc[nodes["kind"] == "error", "pos"].tolist()] = True
        return mask, is_error

    def _clean_errors(self) -> dict[int, Float[Tensor, "pos d_out"]]:
        found: dict[int, Tensor] = {}

        def noting(layer: int) -> Edit:
            def note(x: Tensor, y: Tensor, each: Transcoder) -> Tensor:
                found[layer] = y - each(x)
                return y

            return note

        self._metric({layer: noting(layer) for layer in self.transcoders})
        return found

    @torch.no_grad()
    def _metric(self, edits: Mapping[int, Edit], token_pos: Sequence[int] = ()) -> float:
        """The metric with y replaced by edits[layer](x, y, transcoder), and with no token known at some positions."""
        with ExitStack() as stack:
            if len(token_pos):
                others = mean_entrance(self.model, self.tokens)
                at = torch.tensor(list(token_pos), device=self.tokens.device)
                stack.enter_context(hooked(self.model, STREAM, lambda x: x.index_copy(1, at, others[at][None].to(x.dtype))))
            for layer, edit in edits.items():
                self._put(stack, self.transcoders[layer], edit)
            logits = three(three_columns(self.metric).of(last_logits(self.model, self.tokens))).double()[0]
        return float(logits[0] - logits[2 if self.metric.baseline is None else 1])

    def _put(self, stack: ExitStack, each: Transcoder, edit: Edit) -> None:
        """x is read at the one place, y replaced at the other, in the same pass."""
        read: list[Tensor] = []

        def note(x: Tensor) -> None:
            read[:] = [x.flatten(2)[0].to(each.W_dec.dtype)]

        def put(y: Tensor) -> Tensor:
            return edit(read[0], y.flatten(2)[0].to(each.W_dec.dtype), each).view(y.shape).to(y.dtype)

        stack.enter_context(seen(self.model, each.cfg.hook_name_in, note))
        stack.enter_context(hooked(self.model, each.cfg.hook_name_out, put))
