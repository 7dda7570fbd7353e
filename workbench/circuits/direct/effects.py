"""Direct effects between the features of transcoders: who writes what another one reads, everything in between frozen (frozen.py).

    edge(s → t) = act_s · W_dec_s · J · W_enc_t      J: the frozen model from s's output to t's input, the skips of transcoders included;
                                                     of a cross-layer transcoder summed over all layers that s writes into below t
    pre_act_t = Σ_s edge(s → t) + constants          s: features, errors and tokens; constants: what no node makes

The definitions are circuit-tracer's ("Circuit Tracing", Ameisen et al. 2025; circuit-tracer 0.5), whose matrices these are to rounding.
They meet half-way: targets above a middle layer are taken down to it as gradients, sources below it are carried up to it as changes, and
what lies on one side of it is met on the way. That is half the blocks passed of taking every target down to the tokens, for one product
of what meets; where the middle is best is reckoned from the numbers of features. A row enters its first block at one position: that block
takes two products for it, every later one two at each position. At the start position only the token is a node: it goes all the way up
with the constants, and no gradient comes down to it. No gradient or change is kept that no edge needs.

The start position's features and errors are no nodes, as there. What its MLPs give, the biases and the position embeddings are kept as
constants here (there they are dropped; on GPT-2 they are as large as the pre-activations), so that every row adds up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.direct.flow import Flow
from workbench.circuits.direct.frozen import FrozenModel, freeze
from workbench.circuits.direct.nodes import CONSTANTS, Nodes, vectors_of
from workbench.circuits.direct.spread import Rows, Spread, groups
from workbench.model.gemm import machine_rate
from workbench.sae.stack import Layer, Transcoders, stack_of, writers
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MOST_LOGITS, ENOUGH = 10, 0.95  # answers that are nodes: the likeliest until they hold this much, as circuit-tracer has it


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
    check: Callable[[np.ndarray, int], None] = lambda counts, middle: None,
) -> DirectEffects:
    """All direct effects between the active features, errors and tokens of one prompt (1, pos), and on the logits.

    transcoders: by layer, one for every layer, or a cross-layer one. logit_tokens: the likeliest by default. each: told which share of the
    work is newly done. check: told how many nodes there are, by position and layer (the token's
    first), and the layer where they meet, before any edge is made.
    Raises ValueError where the set does not fit the model, FrozenError where the model cannot be frozen.
    """
    with machine_rate():
        frozen = freeze(model, tokens)
        return _Work(frozen, stack_of(transcoders), logit_tokens, each, check).done()


class _Work:
    """The vectors of all nodes, and what is found of their edges so far."""

    def __init__(
        self,
        frozen: FrozenModel,
        stack: Sequence[Layer],
        logit_tokens: Sequence[int] | None,
        each: Callable[[float], None],
        check: Callable[[np.ndarray, int], None],
    ):
        self.frozen, self.stack, self.each = frozen, stack, each
        self.n_pos, self.n_layers = len(frozen.embeddings), len(stack)
        self.flows = {i: Flow.of(block, layer) for i, (block, layer) in enumerate(zip(frozen.blocks, stack, strict=True))}
        frozen.blocks.clear()  # each goes when its flow goes
        self.nodes, self.writes, self.reads, self.constants = vectors_of(frozen, list(self.flows.values()), stack)
        self.middle = _best_middle(self.nodes, self.n_layers, frozen.embeddings.shape[1])
        check(np.diff(self.nodes.starts, axis=1), self.middle)
        self.logit_tokens, self.probabilities = _logits(frozen, logit_tokens)
        self.logit_vectors = self._logit_vectors()
        self.edges = [np.zeros((starts[-1] - starts[0], starts[-1]), dtype=np.float32) for starts in self.nodes.starts]
        self.stream = frozen.added.new_zeros(self.n_pos, len(CONSTANTS) + 1, frozen.added.shape[1])
        self.stream[:, 3], self.stream[0, -1] = frozen.added, self.writes[0][0][0]
        self.to_logits = np.zeros((len(self.logit_tokens), len(self.nodes.layer)), dtype=np.float32)

    def done(self) -> DirectEffects:
        self._constants_through(range(self.middle))
        carried = [self._carried(pos) for pos in range(self.n_pos)]
        begins = np.concatenate([[0], np.cumsum([_n(each) for each in carried])])
        met = [self.reads.new_empty(int(end), self.reads.shape[1]) for end in begins[1:]]
        for group in groups({pos: _n(carried[pos]) * (self.n_pos - pos) for pos in range(1, self.n_pos)}):
            changes = self._up(group)
            for (at, pos), rows in changes.slices.items():
                met[at][begins[pos] : begins[pos + 1]] = changes.flat[rows]
            self.each(0.5 * len(group) / self.n_pos)
        for layer in range(self.middle):
            del self.flows[layer]  # what is met takes the memory of its weights
        for at in self.writes:
            at[: self.middle] = [at[0][:0]] * self.middle  # and of what nothing above reads any more
        self._constants_through(range(self.middle, self.n_layers))
        uppers = [self.nodes.at(pos, self.middle, self.n_layers) for pos in range(self.n_pos)]
        for group in groups({pos: _n(uppers[pos]) * pos for pos in reversed(range(1, self.n_pos))}):
            edges = {pos: self.edges[pos][uppers[pos].start - self.nodes.starts[pos, 0] :] for pos in group}
            self._down(edges, met)
            del met[group[0] :]  # no earlier position reads there: so the rows of edges take the memory of what they are made of
            self.each(0.5 * len(group) / self.n_pos)
        known = self.logit_tokens, self.probabilities, self.to_logits, self._logit_constants()
        return DirectEffects(self.nodes, self.edges, self.constants.cpu().numpy(), *known)

    def _carried(self, pos: int) -> slice:
        """The lower nodes that are met as changes. Those just below the middle are not: they write where the gradients arrive."""
        return self.nodes.at(pos, -1, self.middle - 1) if pos else slice(0, 0)

    def _up(self, group: Sequence[int]) -> Spread:
        """The lower nodes of some positions, from where they write to the middle; read by the lower features on the way."""
        nodes = self.nodes
        changes = Spread.empty({pos: range(pos, self.n_pos) for pos in group}, self.reads)
        new = {pos: self.writes[pos][0] for pos in group}
        for layer in range(self.middle):
            flow = self.flows[layer]
            flow.middle(changes)
            changes = changes.grown(flow.middle_from(new), is_first=False)
            for at in range(group[0], self.n_pos):
                targets = nodes.at(at, layer)
                rows = slice(targets.start - nodes.starts[at, 0], targets.stop - nodes.starts[at, 0])
                found = torch.mm(self.reads[targets], changes.at(at).T).cpu().numpy()
                for pos, own in _columns(changes, at).items():
                    begin = nodes.starts[pos, 0]
                    self.edges[at][rows, begin : begin + _n(own)] = found[:, own]
            flow.after(changes)
            if layer < self.middle - 1:  # what is written just below the middle meets the gradients there
                for pos in group:
                    written = self.writes[pos][layer + 1]
                    older, new[pos] = written.tensor_split([len(written) - _n(nodes.at(pos, layer))])
                    changes.of(pos, changes.flat)[0][changes.n[pos] - len(older) :] += older
        return changes

    def _sources(self, pos: int, layer: int) -> slice:
        """The nodes of a position that write into the stream at a layer (−1: the token), as they stand in `writes`."""
        return self.nodes.at(pos, writers(self.stack, layer).start if layer >= 0 else -1, layer + 1)

    def _down(self, edges: Mapping[int, np.ndarray], met: list[Tensor]) -> None:
        """Upper nodes of some positions, as gradients down to the middle; what they meet on the way and there. The logits, which read at
        the last position, go with its nodes."""
        gradients, last, beyond = Spread.empty({pos: range(1, pos + 1) for pos in edges}, self.reads), self.n_pos - 1, 0
        whole = dict(edges)
        if last in whole:
            beyond, whole[last] = len(self.to_logits), np.concatenate([edges[last], self.to_logits])
            gradients = gradients.grown({pos: self._tops(pos) for pos in edges}, is_first=True)
        for layer in reversed(range(self.middle, self.n_layers)):
            self._written_at(layer, gradients, whole)
            self.flows[layer].back(gradients)
            new = {pos: self.reads[self.nodes.at(pos, layer)] for pos in edges}
            gradients = gradients.grown(self.flows[layer].back_from(new, 1), is_first=True)
        self._written_at(self.middle - 1, gradients, whole)
        for pos, found in whole.items():
            self._meet(found, gradients.of(pos, gradients.flat), met)
        if beyond:
            edges[last][:], self.to_logits[:] = whole[last][:-beyond], whole[last][-beyond:]

    def _tops(self, pos: int) -> Rows:
        """The logits' gradients to what the last norm reads, at the positions up to there; of other positions than the last none."""
        vectors = self.logit_vectors[: None if pos == self.n_pos - 1 else 0]
        tops = vectors.new_zeros(pos, *vectors.shape)
        tops[-1] = self.frozen.norm.back(vectors, torch.full((len(vectors),), pos, device=vectors.device))
        return tops

    def _written_at(self, layer: int, gradients: Spread, edges: Mapping[int, np.ndarray]) -> None:
        """What a layer's nodes write, against gradients to the stream after it. An array of edges stands from the lowest layer up: its last
        rows are those that have come in so far."""
        for at in range(1, max(edges) + 1):
            found = torch.mm(gradients.at(at), self.writes[at][layer + 1].T).cpu().numpy()
            for pos, own in _columns(gradients, at).items():
                edges[pos][len(edges[pos]) - _n(own) :, self._sources(at, layer)] += found[own]

    def _meet(self, edges: np.ndarray, gradients: Sequence[Float[Tensor, "n d_model"]], met: list[Tensor]) -> None:
        """Σ over positions of gradient · change, for the lower nodes up to there."""
        found = gradients[-1] @ met[len(gradients)].T
        for gradient, change in zip(gradients[:-1], met[1:], strict=False):
            found[:, : len(change)].addmm_(gradient, change.T)
        found = found.cpu().numpy()
        done = 0
        for at in range(1, len(gradients) + 1):
            lower = self._carried(at)
            edges[:, lower] += found[:, done : (done := done + _n(lower))]

    def _logit_vectors(self) -> Float[Tensor, "n_logits d_model"]:
        """Each answer's logit less the vocabulary's mean, before a soft cap."""
        chosen = torch.as_tensor(self.logit_tokens, device=self.frozen.W_U.device)
        return (self.frozen.W_U[:, chosen] - self.frozen.W_U.mean(1, keepdim=True)).T

    def _constants_through(self, layers: range) -> None:
        """The constants, streams that no node makes, from block to block, read by the features. With them the start position's token, which
        is all that is there: its edges are found here, and no gradient goes to that position."""
        stream = self.stream
        carried = Spread(stream.view(-1, stream.shape[2]), {0: range(self.n_pos)}, {0: stream.shape[1]})  # in stream's own memory
        for layer in layers:
            flow = self.flows[layer]
            flow.middle(carried)
            stream[:, 2] += 0 if flow.is_parallel else flow.attention.constant
            for pos, read in enumerate(stream):
                targets, start = self.nodes.at(pos, layer), self.nodes.starts[pos, 0]
                found = self.reads[targets] @ read.T
                self.constants[targets] += found[:, :-1]
                self.edges[pos][targets.start - start : targets.stop - start, 0] = found[:, -1].cpu()
            flow.after(carried)
            stream[:, 2] += flow.attention.constant if flow.is_parallel else 0
            stream[:, :-1] += _written_constants(flow, self.stack[layer].b_dec)

    def _logit_constants(self) -> np.ndarray:
        """The same of the logits, when the constants are through."""
        chosen, vectors, stream = torch.as_tensor(self.logit_tokens, device=self.stream.device), self.logit_vectors, self.stream
        last = self.frozen.norm.forth(stream[-1], torch.full(stream.shape[1:2], self.n_pos - 1, device=stream.device))
        to_logits = vectors @ last.T
        to_logits[:, 2] += vectors @ self.frozen.norm.bias + self.frozen.b_U[chosen] - self.frozen.b_U.mean()
        self.to_logits[:, 0] = to_logits[:, -1].cpu()
        return to_logits[:, :-1].cpu().numpy()


def _written_constants(flow: Flow, b_dec: Tensor) -> Rows:
    """What a block adds to the stream that no node makes: b_dec, biases around it, the start position's MLP but for its skip."""
    constants = flow.y.new_zeros(len(flow.y), len(CONSTANTS), flow.y.shape[1])
    constants[1:, 1] = b_dec
    constants[0, 4] = flow.y[0]
    if flow.W_skip is not None:
        constants[0, 4] -= flow.x[0] @ flow.W_skip
        constants[:, 2] += flow.read.bias @ flow.W_skip if flow.read else 0
    if flow.write:
        every = torch.arange(len(constants), device=constants.device).repeat_interleave(len(CONSTANTS))
        constants = flow.write.forth(constants.flatten(0, 1), every).view(constants.shape)
        constants[:, 2] += flow.write.bias
    return constants


def _n(nodes: slice) -> int:
    return nodes.stop - nodes.start


def _columns(rows: Spread, at: int) -> dict[int, slice]:
    """The position that rows belong to → where they stand among all that is known at a position."""
    here = {pos: own for (pos_at, pos), own in rows.slices.items() if pos_at == at}
    begin = min(own.start for own in here.values())
    return {pos: slice(own.start - begin, own.stop - begin) for pos, own in here.items()}


def _logits(frozen: FrozenModel, ids: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    probabilities = frozen.logits.softmax(0)
    if ids is None:
        likeliest = probabilities.topk(min(MOST_LOGITS, len(probabilities)))
        n = int((likeliest.values.cumsum(0) < ENOUGH).sum()) + 1
        ids = likeliest.indices[:n].tolist()
    chosen = torch.as_tensor(ids, device=probabilities.device)
    return np.array(ids), probabilities[chosen].cpu().numpy()


def _best_middle(nodes: Nodes, n_layers: int, d_model: int) -> int:
    """The layer that costs the fewest multiply-adds: a row through a block takes 2 · d² at each position, through its first block (which
    it enters at one position) about as much in all; a meeting d at each position."""
    counts = np.diff(nodes.starts, axis=1)  # (pos, 1 + n_layers): the token, then the layers
    n_pos, total = len(counts), counts.sum(0)
    down = (counts[:, 1:] * np.arange(n_pos)[:, None]).sum(0)  # by layer: row-positions of gradients, none at the start
    up = (counts * np.arange(n_pos, 0, -1)[:, None]).sum(0)
    costs = []
    for middle in range(n_layers + 1):
        passes = sum(total[1 + layer] + down[layer] * (layer - middle) for layer in range(middle, n_layers))
        passes += sum(total[layer] + up[layer] * (middle - layer - 1) for layer in range(middle))  # of layer − 1, its block is `layer`
        above, below = counts[:, 1 + middle :].sum(1), counts[:, :middle].sum(1).cumsum()
        meetings = sum(above[pos] * below[: pos + 1].sum() for pos in range(n_pos))
        costs.append(2 * d_model * passes + meetings)
    return int(np.argmin(costs))
