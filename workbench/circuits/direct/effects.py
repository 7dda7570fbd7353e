"""Direct effects between the features of transcoders: who writes what another one reads, everything in between frozen (frozen.py).

    edge(s → t) = act_s · W_dec_s · J · W_enc_t      J: the frozen model from s's output to t's input, the skips of transcoders included;
                                                     of a cross-layer transcoder summed over all layers that s writes into below t
    pre_act_t = Σ_s edge(s → t) + constants          s: features, errors and tokens; constants: what no node makes

The definitions are circuit-tracer's ("Circuit Tracing", Ameisen et al. 2025; circuit-tracer 0.5), whose matrices these are to rounding.
They meet half-way: targets above a middle layer are taken down to it as gradients, sources below it are carried up to it as changes, and
what lies on one side of it is met on the way. That is half the blocks passed of taking every target down to the tokens, for one product
of what meets; where the middle is best is reckoned from the numbers of features. No gradient or change is kept that no edge needs.

The start position's features and errors are no nodes, as there. What its MLPs give, the biases and the position embeddings are kept as
constants here (there they are dropped; on GPT-2 they are as large as the pre-activations), so that every row adds up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.direct.flow import Flow, read_by, written
from workbench.circuits.direct.frozen import FrozenModel, Rows, freeze
from workbench.model.gemm import machine_rate
from workbench.sae.stack import Layer, Transcoders, predicted, stack_of, writers
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CONSTANTS = ("b_enc", "b_dec", "biases", "positions", "start")  # of the encoder, of the decoders, the model's, …, position 0's MLPs
MOST_LOGITS, ENOUGH = 10, 0.95  # answers that are nodes: the likeliest until they hold this much, as circuit-tracer has it


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


@dataclass(frozen=True, eq=False)
class DirectEffects:
    """edges[pos] (n_nodes there, n_nodes up to there): [target, source]; rows of tokens and errors are 0. to_logits (n_logits, n_nodes).

    constants (n_nodes, 5), logit_constants (n_logits, 5): by CONSTANTS. Probabilities are the model's own, not rescaled.
    """

    nodes: Nodes
    edges: list[Float[np.ndarray, "_ _"]]
    constants: Float[np.ndarray, "n 5"]
    logit_tokens: Int[np.ndarray, "n_logits"]
    probabilities: Float[np.ndarray, "n_logits"]
    to_logits: Float[np.ndarray, "n_logits n"]
    logit_constants: Float[np.ndarray, "n_logits 5"]

    def dense(self) -> Float[np.ndarray, "n_and_logits n_and_logits"]:
        """[target, source] of all nodes, the logits last."""
        n = len(self.nodes.layer)
        matrix = np.zeros((n + len(self.logit_tokens),) * 2, dtype=np.float32)
        for starts, edges in zip(self.nodes.starts, self.edges, strict=True):
            matrix[starts[0] : starts[-1], : edges.shape[1]] = edges
        matrix[n:, :n] = self.to_logits
        return matrix


@torch.no_grad()
def direct_effects(
    model: "TransformerBridge",
    transcoders: Transcoders,
    tokens: Tokens,
    logit_tokens: Sequence[int] | None = None,
    each: Callable[[float], None] = lambda share: None,
) -> DirectEffects:
    """All direct effects between the active features, errors and tokens of one prompt (1, pos), and on the logits.

    transcoders: by layer, one for every layer, or a cross-layer one. logit_tokens: the likeliest by default. each: told which share of the
    work is newly done.
    Raises ValueError where the set does not fit the model, FrozenError where the model cannot be frozen.
    """
    with machine_rate():
        frozen = freeze(model, tokens)
        return _Work(frozen, stack_of(transcoders), logit_tokens, each).done()


class _Work:
    """The vectors of all nodes, and what is found of their edges so far."""

    def __init__(self, frozen: FrozenModel, stack: Sequence[Layer], logit_tokens: Sequence[int] | None, each: Callable[[float], None]):
        self.frozen, self.stack, self.each = frozen, stack, each
        self.n_pos, self.n_layers = len(frozen.embeddings), len(stack)
        self.flows = [Flow.of(block, layer) for block, layer in zip(frozen.blocks, stack, strict=True)]
        self.nodes, self.writes, self.reads, self.own = _nodes(frozen, self.flows, stack)
        self.logit_tokens, self.probabilities = _logits(frozen, logit_tokens)
        self.edges = [np.zeros((starts[-1] - starts[0], starts[-1]), dtype=np.float32) for starts in self.nodes.starts]
        self.to_logits = np.zeros((len(self.logit_tokens), len(self.nodes.layer)), dtype=np.float32)
        self.middle = _best_middle(self.nodes, self.n_layers, frozen.embeddings.shape[1])

    def done(self) -> DirectEffects:
        below = []
        for pos in range(self.n_pos):
            below.append(self._up(pos))
            self.each(0.5 / self.n_pos)
        met = [torch.cat([changes[pos - first] for first, changes in enumerate(below[: pos + 1])]) for pos in range(self.n_pos)]
        del below
        for pos in range(self.n_pos):
            own = self.nodes.at(pos, self.middle, self.n_layers)
            self._down(pos, self.edges[pos][own.start - self.nodes.starts[pos, 0] :], own, met)
            self.each(0.5 / self.n_pos)
        self._logits_down(met)
        constants, logit_constants = self._constants()
        known = self.logit_tokens, self.probabilities, self.to_logits, logit_constants
        return DirectEffects(self.nodes, self.edges, constants, *known)

    def _up(self, pos: int) -> Rows:
        """The lower nodes of one position, from where they write to the middle; read by the lower features on the way."""
        nodes, changes = self.nodes, self.frozen.embeddings.new_zeros(self.n_pos - pos, 0, self.frozen.embeddings.shape[1])
        for layer in range(-1, self.middle):
            if layer >= 0:
                before, flow = changes, self.flows[layer]
                middle = flow.middle(before, pos)
                columns = slice(nodes.at(pos, -1).start, nodes.at(pos, layer).start)
                for i, read in enumerate(middle):
                    targets = nodes.at(pos + i, layer)
                    rows = slice(targets.start - nodes.starts[pos + i, 0], targets.stop - nodes.starts[pos + i, 0])
                    self.edges[pos + i][rows, columns] = torch.mm(self.reads[targets], read.T).cpu()
                changes = flow.after(before, middle, pos)
            new, here = self.writes[pos][layer + 1], nodes.at(pos, layer)
            changes = torch.cat([changes, changes.new_zeros(len(changes), here.stop - here.start, new.shape[1])], dim=1)
            changes[0, changes.shape[1] - len(new) :] += new
        return changes

    def _sources(self, pos: int, layer: int) -> slice:
        """The nodes of a position that write into the stream at a layer, as they stand in `writes`."""
        return self.nodes.at(pos, writers(self.stack, layer).start, layer + 1)

    def _down(self, pos: int, edges: np.ndarray, own: slice, met: list[Tensor], top: Rows | None = None) -> None:
        """Upper nodes of one position (or, with top, the logits), as gradients down to the middle; what they meet on the way and there."""
        nodes, n = self.nodes, 0 if top is None else top.shape[1]
        gradients = self.frozen.embeddings.new_zeros(pos + 1, 0, self.frozen.embeddings.shape[1]) if top is None else top
        for layer in reversed(range(self.middle, self.n_layers)):
            first = len(edges) - n  # rows stand from the lowest layer up, so those that have come in so far are the last
            for at, gradient in enumerate(gradients):
                edges[first:, self._sources(at, layer)] += torch.mm(self.writes[at][layer + 1], gradient.T).T.cpu().numpy()
            new = nodes.at(pos, layer) if top is None else slice(0, 0)
            passed = self.flows[layer].back(gradients) if n else gradients
            gradients = torch.cat([self.flows[layer].back_from(pos, self.reads[new]), passed], dim=1) if new.stop > new.start else passed
            n += new.stop - new.start
        self._meet(edges, gradients, met)

    def _meet(self, edges: np.ndarray, gradients: Rows, met: list[Tensor]) -> None:
        """Σ over positions of gradient · change, for the lower nodes up to there."""
        pos = len(gradients) - 1
        found = gradients.new_zeros(gradients.shape[1], len(met[pos]))
        for gradient, change in zip(gradients, met, strict=False):
            found[:, : len(change)] += gradient @ change.T
        found = found.cpu().numpy()
        done = 0
        for at in range(pos + 1):
            lower = self.nodes.at(at, -1, self.middle)
            edges[:, lower] += found[:, done : (done := done + lower.stop - lower.start)]

    def _logits_down(self, met: list[Tensor]) -> None:
        last = self.n_pos - 1
        vectors = self._logit_vectors()
        top = vectors.new_zeros(self.n_pos, *vectors.shape)
        top[last] = self.frozen.norm.back(vectors[None], last)[0]
        self._down(last, self.to_logits, slice(0, 0), met, top)

    def _logit_vectors(self) -> Float[Tensor, "n_logits d_model"]:
        """Each answer's logit less the vocabulary's mean, before a soft cap."""
        chosen = torch.as_tensor(self.logit_tokens, device=self.frozen.W_U.device)
        return (self.frozen.W_U[:, chosen] - self.frozen.W_U.mean(1, keepdim=True)).T

    def _constants(self) -> tuple[np.ndarray, np.ndarray]:
        """The streams that no node makes, carried through the frozen model and read by all features and logits."""
        stream = self.frozen.added.new_zeros(self.n_pos, len(CONSTANTS), self.frozen.added.shape[1])
        stream[:, 3] = self.frozen.added
        constants = self.own.clone()
        for layer, flow in enumerate(self.flows):
            middle = flow.middle(stream, 0).clone()
            middle[:, 2] += 0 if flow.is_parallel else flow.attention.constant
            for pos, read in enumerate(middle):
                constants[self.nodes.at(pos, layer)] += self.reads[self.nodes.at(pos, layer)] @ read.T
            stream = flow.after(stream, middle, 0)
            stream[:, 2] += flow.attention.constant if flow.is_parallel else 0
            stream += _written_constants(flow, self.stack[layer].b_dec)
        chosen, vectors = torch.as_tensor(self.logit_tokens, device=stream.device), self._logit_vectors()
        last = self.frozen.norm.forth(stream[-1:], self.n_pos - 1)[0]
        to_logits = vectors @ last.T
        to_logits[:, 2] += vectors @ self.frozen.norm.bias + self.frozen.b_U[chosen] - self.frozen.b_U.mean()
        return constants.cpu().numpy(), to_logits.cpu().numpy()


def _written_constants(flow: Flow, b_dec: Tensor) -> Rows:
    """What a block adds to the stream that no node makes: b_dec, biases around it, the start position's MLP but for its skip."""
    constants = flow.y.new_zeros(len(flow.y), len(CONSTANTS), flow.y.shape[1])
    constants[1:, 1] = b_dec
    constants[0, 4] = flow.y[0]
    if flow.W_skip is not None:
        constants[0, 4] -= flow.x[0] @ flow.W_skip
        constants[:, 2] += flow.read.bias @ flow.W_skip if flow.read else 0
    if flow.write:
        constants = flow.write.forth(constants, 0)
        constants[:, 2] += flow.write.bias
    return constants


def _nodes(
    frozen: FrozenModel, flows: Sequence[Flow], stack: Sequence[Layer]
) -> tuple[Nodes, list[list[Float[Tensor, "_ d_model"]]], Float[Tensor, "n d_model"], Float[Tensor, "n 5"]]:
    """Nodes; by position and layer (the token's first) what is written into the stream there; what each node reads (0 for errors and
    tokens); the constants of reading: b_enc, norm biases."""
    acts, pre_acts, errors = _explained(flows, stack)
    about, writes, reads, own, starts, n = [], [], [], [], [], 0
    d_model, nothing = frozen.embeddings.shape[1], frozen.embeddings.new_zeros
    for pos, embedding in enumerate(frozen.embeddings):
        about.append(np.array([[-1, pos, -1, 0, 0]]))
        parts = [(nothing(1, d_model), nothing(1, len(CONSTANTS)))]
        writes.append([embedding[None]])
        starts.append([n])
        here = [layer_acts[pos].nonzero()[:, 0] for layer_acts in acts]
        for layer, (flow, features) in enumerate(zip(flows, stack, strict=True)):
            starts[-1].append(n := n + len(about[-1]))
            active, n_errors = here[layer], int(pos > 0)
            W_enc, act = features.W_enc.T[active], acts[layer][pos, active]
            constant = nothing(len(active) + n_errors, len(CONSTANTS))
            constant[: len(active), 0] = features.b_enc[active]
            constant[: len(active), 2] = W_enc @ flow.read.bias if flow.read else 0
            parts.append((torch.cat([read_by(flow, pos, W_enc), nothing(n_errors, d_model)]), constant))
            writes[-1].append(written(flow, pos, _written_here(stack, layer, acts, errors, pos, here)))
            known = (torch.full_like(act, layer), torch.full_like(act, pos), active, act, pre_acts[layer][pos, active])
            rows = torch.stack([column.double() for column in known], 1).cpu().numpy()
            about.append(np.concatenate([rows, [[layer, pos, -1, 0, 0]] * n_errors]) if n_errors else rows)
        starts[-1].append(n := n + len(about[-1]))
        for kept, part in zip((reads, own), zip(*parts, strict=True), strict=True):
            kept += part
    layer, pos, feature, act, pre_act = np.concatenate(about).T
    nodes = Nodes(
        layer.astype(int), pos.astype(int), feature.astype(int), act.astype(np.float32), pre_act.astype(np.float32), np.array(starts)
    )
    return nodes, writes, torch.cat(reads), torch.cat(own)


def _written_here(
    stack: Sequence[Layer], layer: int, acts: Sequence[Tensor], errors: Sequence[Tensor], pos: int, here: Sequence[Tensor]
) -> Float[Tensor, "_ d_out"]:
    """What each node of the layers that write into this one puts there: its features' decoder rows, its own error, none of others'."""
    rows = []
    for below in writers(stack, layer):
        rows.append(stack[below].W_decs[layer][here[below]] * acts[below][pos, here[below], None])
        if pos > 0:
            rows.append(errors[layer][pos, None] if below == layer else torch.zeros_like(errors[layer][pos, None]))
    return torch.cat(rows)


def _explained(flows: Sequence[Flow], stack: Sequence[Layer]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """By layer: feature_acts and pre_acts (pos, d_sae), errors (pos, d_out); features and errors are 0 at the start position."""
    acts = [layer.encode(flow.x) for flow, layer in zip(flows, stack, strict=True)]
    for each in acts:
        each[0] = 0
    errors = [flow.y - predicted(stack, acts, flow.x, layer) for layer, flow in enumerate(flows)]
    for error in errors:
        error[0] = 0
    return acts, [layer.pre_acts(flow.x) for flow, layer in zip(flows, stack, strict=True)], errors


def _logits(frozen: FrozenModel, ids: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    probabilities = frozen.logits.softmax(0)
    if ids is None:
        likeliest = probabilities.topk(min(MOST_LOGITS, len(probabilities)))
        n = int((likeliest.values.cumsum(0) < ENOUGH).sum()) + 1
        ids = likeliest.indices[:n].tolist()
    chosen = torch.as_tensor(ids, device=probabilities.device)
    return np.array(ids), probabilities[chosen].cpu().numpy()


def _best_middle(nodes: Nodes, n_layers: int, d_model: int) -> int:
    """The layer that costs the fewest multiply-adds: a row through a block takes 2 · d² at each position, a meeting d at each."""
    counts = np.diff(nodes.starts, axis=1)  # (pos, 1 + n_layers): the token, then the layers
    n_pos = len(counts)
    down = (counts[:, 1:] * np.arange(1, n_pos + 1)[:, None]).sum(0)  # by layer: row-positions of gradients
    up = (counts * np.arange(n_pos, 0, -1)[:, None]).sum(0)
    costs = []
    for middle in range(n_layers + 1):
        passes = sum(down[layer] * (layer + 1 - middle) for layer in range(middle, n_layers))
        passes += sum(up[layer] * (middle - layer) for layer in range(middle + 1))
        above, below = counts[:, 1 + middle :].sum(1), counts[:, : 1 + middle].sum(1).cumsum()
        meetings = sum(above[pos] * below[: pos + 1].sum() for pos in range(n_pos))
        costs.append(2 * d_model * passes + meetings)
    return int(np.argmin(costs))
