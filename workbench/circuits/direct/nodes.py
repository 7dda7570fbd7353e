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
from workbench.sae.stack import Layer, predicted

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
) -> tuple[Nodes, Float[Tensor, "n d_model"], Float[Tensor, "n d_model"], Float[Tensor, "n 5"]]:
    """Nodes; what each writes into the stream at its own layer; what each reads (0 for errors and tokens); the constants of reading: b_enc,
    norm biases."""
    n_pos, d_model = frozen.embeddings.shape
    every, nothing = torch.arange(n_pos, device=frozen.embeddings.device), frozen.embeddings.new_zeros
    about, writes = [_rows(-1, every, every * 0 - 1, nothing(n_pos), nothing(n_pos))], [frozen.embeddings]
    reads, own = [nothing(n_pos, d_model)], [nothing(n_pos, len(CONSTANTS))]
    found: dict[int, Tensor] = {}
    for layer, (flow, here) in enumerate(zip(flows, stack, strict=True)):
        pre_acts, errors = _explained(flow, stack, layer, found)
        pos, active = found[layer].nonzero().T
        act, W_enc = found[layer][pos, active], here.W_enc.T[active]
        constant = nothing(len(active), len(CONSTANTS))
        constant[:, 0], constant[:, 2] = here.b_enc[active], W_enc @ flow.read.bias if flow.read else 0
        about.append(_rows(layer, pos, active, act, pre_acts[pos, active]))
        about.append(_rows(layer, every[1:], every[1:] * 0 - 1, nothing(n_pos - 1), nothing(n_pos - 1)))
        writes += [written(flow, pos, here.W_decs[layer][active] * act[:, None]), written(flow, every[1:], errors[1:])]
        reads += [read_by(flow, pos, W_enc), nothing(n_pos - 1, d_model)]
        own += [constant, nothing(n_pos - 1, len(CONSTANTS))]
    layer, pos, feature, act, pre_act = np.concatenate(about).T
    order = np.lexsort((feature < 0, layer, pos))  # by position, layer, errors after features; those stand in their order already
    counts = np.bincount((pos * (len(flows) + 1) + layer + 1).astype(int), minlength=n_pos * (len(flows) + 1)).reshape(n_pos, -1)
    ends = counts.cumsum().reshape(counts.shape)
    nodes = Nodes(
        *(each[order].astype(int) for each in (layer, pos, feature)),
        *(each[order].astype(np.float32) for each in (act, pre_act)),
        starts=np.concatenate([ends[:, :1] - counts[:, :1], ends], axis=1),
    )
    at = torch.as_tensor(order, device=frozen.embeddings.device)
    return nodes, torch.cat(writes)[at], torch.cat(reads)[at], torch.cat(own)[at]


def _rows(layer: int, pos: Tensor, feature: Tensor, act: Tensor, pre_act: Tensor) -> Float[np.ndarray, "n 5"]:
    """layer, pos, feature, activation, pre-activation of some nodes."""
    known = torch.full_like(act, layer), pos, feature, act, pre_act
    return torch.stack([column.double() for column in known], 1).cpu().numpy()


def _explained(flow: Flow, stack: Sequence[Layer], layer: int, found: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """pre_acts (pos, d_sae), errors (pos, d_out); found: takes feature_acts, has those of the layers below. Features and errors are 0 at
    the start position."""
    pre_acts = stack[layer].pre_acts(flow.x)  # once: at few tokens the encoders' reading from memory is what this takes
    found[layer] = stack[layer].select(pre_acts)
    found[layer][0] = 0
    error = flow.y - predicted(stack, found, flow.x, layer)
    error[0] = 0
    return pre_acts, error


def written_above(flows: Sequence[Flow], stack: Sequence[Layer], nodes: Nodes) -> list[list[Float[Tensor, "_ d_model"]]] | None:
    """[layer][pos]: what the features of lower layers write into the stream at a layer, a row for each node of these layers there (0 for
    errors). None where features write at their own layer only."""
    if all(len(each.W_decs) == 1 for each in stack):
        return None
    return [[_from_below(flow, stack, nodes, layer, pos) for pos in range(len(nodes.starts))] for layer, flow in enumerate(flows)]


def _from_below(flow: Flow, stack: Sequence[Layer], nodes: Nodes, layer: int, pos: int) -> Float[Tensor, "_ d_model"]:
    here, b_dec = nodes.at(pos, 0, layer), stack[layer].b_dec
    rows = b_dec.new_zeros(here.stop - here.start, len(b_dec))
    for below in range(layer):
        these = nodes.at(pos, below)
        features = torch.as_tensor(nodes.feature[these][nodes.is_feature[these]], device=b_dec.device)  # they stand before the error
        acts = torch.as_tensor(nodes.activation[these][: len(features)], device=b_dec.device)
        first = these.start - here.start
        rows[first : first + len(features)] = stack[below].W_decs[layer][features] * acts[:, None]
    return written(flow, torch.full((len(rows),), pos, device=b_dec.device), rows)
