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
from workbench.sae.stack import Layer, n_parts_of, writers

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
    acts = [_active(flow, features) for flow, features in zip(flows, stack, strict=True)]
    n_pos, d_model = frozen.embeddings.shape
    every = torch.arange(n_pos, device=frozen.embeddings.device)
    where = [every, *(torch.cat([pairs[:, 0], every[1:]]) for pairs, _ in acts)]
    order = torch.cat(where).argsort(stable=True)  # within a position they stand in their order already
    places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)).split([len(each) for each in where])
    about, writes = [_about(-1, every)], [frozen.embeddings.split(1)]
    reads, own = frozen.embeddings.new_zeros(len(order), d_model), frozen.embeddings.new_zeros(len(order), len(CONSTANTS))
    for layer, (flow, features) in enumerate(zip(flows, stack, strict=True)):
        (pos, ids), values = acts[layer].pairs.T, acts[layer].acts
        W_enc, b_enc, at = features.W_enc.T[ids].to(reads), features.b_enc[ids], places[layer + 1][: len(ids)]
        reads[at] = read_by(flow, pos, W_enc)
        own[at, 0], own[at, 2] = b_enc, W_enc @ flow.read.bias if flow.read else own.new_zeros(len(at))
        pre_acts = (flow.x[pos] * W_enc).sum(1) + b_enc
        about += [_about(layer, pos, ids, values, pre_acts), _about(layer, every[1:])]
        writes.append(_written_at(layer, flow, stack, acts))
    layers, positions, features, act, pre_act = np.concatenate(about)[order.cpu().numpy()].T
    begins = np.searchsorted(positions * len(writes) + layers + 1, np.arange(n_pos * len(writes))).reshape(n_pos, -1)
    starts = np.concatenate([begins, np.append(begins[1:, :1], len(layers))[:, None]], axis=1)
    whole = layers.astype(int), positions.astype(int), features.astype(int)
    nodes = Nodes(*whole, act.astype(np.float32), pre_act.astype(np.float32), starts)
    return nodes, [list(at) for at in zip(*writes, strict=True)], reads, own


def _about(layer: int, pos: Tensor, feature: Tensor | None = None, *values: Tensor) -> Float[np.ndarray, "n 5"]:
    """layer, pos, feature, activation, pre-activation of some nodes; without features, of errors or tokens."""
    known = pos.new_full(pos.shape, layer), pos, pos.new_full(pos.shape, -1) if feature is None else feature
    columns = [*known, *(values or (torch.zeros_like(pos), torch.zeros_like(pos)))]
    return torch.stack([column.double() for column in columns], 1).cpu().numpy()


def _written_at(layer: int, flow: Flow, stack: Sequence[Layer], acts: Sequence[Active]) -> tuple[Float[Tensor, "_ d_model"], ...]:
    """By position: what each node of the layers that write into this one puts there: its features' decoder rows, its own error (what all
    of them leave of y), none of others'."""
    it, rows, where = stack[layer], [], []
    every = torch.arange(1, len(flow.y), device=flow.y.device)
    error = flow.y - it.b_dec if it.W_skip is None else flow.y - it.b_dec - flow.x @ it.W_skip
    for below in writers(stack, layer):
        pos, active = acts[below].pairs.T
        written_there = stack[below].W_decs[layer][active].to(error) * acts[below].acts[:, None].to(error)
        error.index_add_(0, pos, written_there, alpha=-1)
        rows += [written_there, error[1:] if below == layer else error.new_zeros(len(every), error.shape[1])]
        where += [pos, every]
    at = torch.cat(where)
    order = at.argsort(stable=True)
    return written(flow, at[order], torch.cat(rows)[order]).split(at.bincount(minlength=len(flow.y)).tolist())


def _active(flow: Flow, features: Layer) -> Active:
    """(pos, feature) that are active; at the start position, which is no node, none."""
    found, first = [], 0
    for x in flow.x.tensor_split(n_parts_of(features, len(flow.x))):
        found.append(entries(first, features.encode(x)))
        first += len(x)
    pairs, acts = joined(found)
    is_text = pairs[:, 0] > 0
    return Active(pairs[is_text], acts[is_text])
