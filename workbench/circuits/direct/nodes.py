"""The nodes of a graph of direct effects: which there are on a prompt, what each writes into the stream and what it reads there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.direct.flow import Flow, read_by, written
from workbench.circuits.direct.frozen import FrozenModel
from workbench.sae.parts import Active, entries, joined
from workbench.sae.stack import Layer, Predictions, writers

CONSTANTS = ("b_enc", "b_dec", "biases", "positions", "start")  # of the encoder, of the decoders, the model's, …, position 0's MLPs


@dataclass(frozen=True, eq=False)
class Nodes:
    """All of a prompt, position by position and, at one, from the lowest layer up: its token, then each layer's features and its error."""

    layer: Int[np.ndarray, "n"]  # a token's: −1
    pos: Int[np.ndarray, "n"]
    feature: Int[np.ndarray, "n"]  # −1: an error or a token
    activation: Float[np.ndarray, "n"]  # 0 for errors and tokens
    pre_act: Float[np.ndarray, "n"]
    starts: Int[np.ndarray, "n_pos n_layers_and_2"]  # at each position: its token, where each layer begins, the end

    @cached_property
    def is_feature(self) -> Bool[np.ndarray, "n"]:
        """Features, neither errors nor tokens."""
        return self.feature >= 0

    def at(self, pos: int, first_layer: int, end_layer: int | None = None) -> slice:
        """A position's nodes from one layer (−1: the token) up to another, by default its own end."""
        end = first_layer + 1 if end_layer is None else end_layer
        return slice(int(self.starts[pos, first_layer + 1]), int(self.starts[pos, end + 1]))


def vectors_of(
    frozen: FrozenModel, flows: Sequence[Flow], stack: Sequence[Layer]
) -> tuple[Nodes, list[list[Float[Tensor, "_ d_model"]]], Float[Tensor, "n d_model"], Float[Tensor, "n 5"]]:
    """Nodes; by position and layer (the token's first) what is written into the stream there; what each node reads (0 for errors and
    tokens); the constants of reading: b_enc, norm biases."""
    acts, errors = _explained(flows, stack)
    n_pos, d_model = frozen.embeddings.shape
    every, nothing = torch.arange(n_pos, device=frozen.embeddings.device), frozen.embeddings.new_zeros
    about, where = [_about(-1, every)], [every]
    reads, own, writes = [nothing(n_pos, d_model)], [nothing(n_pos, len(CONSTANTS))], [frozen.embeddings.split(1)]
    for layer, (flow, features) in enumerate(zip(flows, stack, strict=True)):
        (pos, active), values = acts[layer].pairs.T, acts[layer].acts
        W_enc, b_enc = features.W_enc.T[active], features.b_enc[active]
        constant = nothing(len(active), len(CONSTANTS))
        constant[:, 0], constant[:, 2] = b_enc, W_enc @ flow.read.bias if flow.read else 0
        pre_acts = (flow.x[pos] * W_enc).sum(1) + b_enc
        about += [_about(layer, pos, active, values, pre_acts), _about(layer, every[1:])]
        where += [pos, every[1:]]
        reads += [read_by(flow, pos, W_enc), nothing(n_pos - 1, d_model)]
        own += [constant, nothing(n_pos - 1, len(CONSTANTS))]
        writes.append(_written_at(layer, flow, stack, acts, errors[layer]))
    order = torch.cat(where).argsort(stable=True)  # within a position they stand in their order already
    layers, positions, features, act, pre_act = np.concatenate(about)[order.cpu().numpy()].T
    places = positions * len(writes) + layers + 1  # ascending
    begins = np.searchsorted(places, np.arange(n_pos * len(writes))).reshape(n_pos, -1)
    starts = np.concatenate([begins, np.append(begins[1:, :1], len(layers))[:, None]], axis=1)
    whole = layers.astype(int), positions.astype(int), features.astype(int)
    nodes = Nodes(*whole, act.astype(np.float32), pre_act.astype(np.float32), starts)
    return nodes, [list(at) for at in zip(*writes, strict=True)], torch.cat(reads)[order], torch.cat(own)[order]


def _about(layer: int, pos: Tensor, feature: Tensor | None = None, *values: Tensor) -> Float[np.ndarray, "n 5"]:
    """layer, pos, feature, activation, pre-activation of some nodes; without features, of errors or tokens."""
    known = pos.new_full(pos.shape, layer), pos, pos.new_full(pos.shape, -1) if feature is None else feature
    columns = [*known, *(values or (torch.zeros_like(pos), torch.zeros_like(pos)))]
    return torch.stack([column.double() for column in columns], 1).cpu().numpy()


def _written_at(
    layer: int, flow: Flow, stack: Sequence[Layer], acts: Sequence[Active], error: Float[Tensor, "pos d_out"]
) -> tuple[Float[Tensor, "_ d_model"], ...]:
    """By position: what each node of the layers that write into this one puts there: its features' decoder rows, its own error, none of
    others'."""
    rows, where = [], []
    for below in writers(stack, layer):
        pos, active = acts[below].pairs.T
        rows += [stack[below].W_decs[layer][active] * acts[below].acts[:, None], error[1:] if below == layer else 0 * error[1:]]
        where += [pos, torch.arange(1, len(error), device=pos.device)]
    at = torch.cat(where)
    order = at.argsort(stable=True)
    return written(flow, at[order], torch.cat(rows)[order]).split(at.bincount(minlength=len(error)).tolist())


def _explained(flows: Sequence[Flow], stack: Sequence[Layer]) -> tuple[list[Active], list[Tensor]]:
    """By layer: the active (pos, feature), errors (pos, d_out); nothing is active at the start position, whose error is 0."""
    predictions, acts, errors = Predictions(stack), [], []
    for layer, flow in enumerate(flows):
        found: list[Active] = []
        predictions.read(layer, flow.x, lambda first, feature_acts, found=found: found.append(entries(first, feature_acts)))
        pairs, values = joined(found)
        is_text = pairs[:, 0] > 0
        acts.append(Active(pairs[is_text], values[is_text]))
    for layer, flow in enumerate(flows):
        error = flow.y - predictions.at(layer, flow.x)
        error[0] = 0
        errors.append(error)
    return acts, errors
