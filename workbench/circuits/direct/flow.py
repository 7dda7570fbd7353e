"""How changes pass one frozen block with a transcoder in its MLP's place: gradients down, changes of the stream up.

    middle = before + attention(before)      after = middle + skip(read(middle))      features read `middle` and write into `after`

In a parallel block (GPT-NeoX, GPT-J) attention and MLP read `before`, and middle is what the MLP reads.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.direct.frozen import FrozenAttention, FrozenBlock, FrozenNorm, Rows, Stream
from workbench.sae.stack import Layer

READS = ("hook_resid_mid", "ln2.hook_normalized", "mlp.hook_in")
WRITES = ("mlp.hook_out", "hook_mlp_out")


@dataclass(frozen=True, eq=False)
class Flow:
    """One block's part: attention, what stands between the stream and the transcoder, and what was there on this prompt."""

    attention: FrozenAttention
    is_parallel: bool
    read: FrozenNorm | None  # between the stream and what the transcoder reads
    write: FrozenNorm | None  # between what it writes and the stream
    W_skip: Float[Tensor, "d_in d_out"] | None
    x: Stream  # what the transcoder reads on this prompt
    y: Stream  # what it is to predict

    @classmethod
    def of(cls, block: FrozenBlock, layer: Layer) -> "Flow":
        """Raises ValueError for a transcoder whose places the graph does not know."""
        ends = [name.split(".", 2)[-1] for name in (layer.hook_name_in, layer.hook_name_out)]
        for end, known in zip(ends, (READS, WRITES), strict=True):
            if end not in known:
                raise ValueError(f"a transcoder at {end} has no place in the graph of direct effects; expected one of {', '.join(known)}")
        reads = {"hook_resid_mid": None, "mlp.hook_in": block.norm, "ln2.hook_normalized": block.norm and block.norm.without_gain()}
        write = block.after if ends[1] == "mlp.hook_out" else None
        x, y = block.mlp_in[ends[0]], block.mlp_out[ends[1]]
        return cls(block.attention, block.is_parallel, reads[ends[0]], write, layer.W_skip, x, y)

    def back(self, after: Rows, first: int) -> Rows:
        """Gradients to the stream after the block, at the positions from `first` on → before it, there."""
        skipped = self._skip_back(after, first)
        middle = after if skipped is None or self.is_parallel else after + skipped
        before = self.attention.back(middle, first).add_(middle)
        return before if skipped is None or not self.is_parallel else before.add_(skipped)

    def back_from(self, pos: int, middle: Float[Tensor, "n d_model"], first: int) -> Rows:
        """Gradients to what the MLP reads at pos → to the stream before the block, at the positions from `first` to there."""
        before = middle.new_zeros(pos + 1 - first, *middle.shape) if self.is_parallel else self.attention.back_from(pos, middle, first)
        before[-1] += middle
        return before

    def middle(self, before: Rows, first: int) -> Rows:
        """Changes of the stream before the block, at the positions from `first` on → of what the MLP reads."""
        return before if self.is_parallel else self.attention.forth(before, first).add_(before)

    def middle_from(self, pos: int, before: Float[Tensor, "n d_model"]) -> Rows:
        """The same for changes at pos alone."""
        n_after = len(self.x) - pos
        middle = before.new_zeros(n_after, *before.shape) if self.is_parallel else self.attention.forth_from(pos, before)
        middle[0] += before
        return middle

    def after(self, before: Rows, middle: Rows, first: int) -> Rows:
        """The same → of the stream after it, features left out."""
        skipped = self._skip(middle, first)
        after = self.attention.forth(before, first).add_(before) if self.is_parallel else middle
        return after if skipped is None else after + skipped

    def _skip(self, middle: Rows, first: int) -> Rows | None:
        if self.W_skip is None:
            return None
        out = (self.read.forth(middle, first) if self.read else middle) @ self.W_skip
        return self.write.forth(out, first) if self.write else out

    def _skip_back(self, after: Rows, first: int) -> Rows | None:
        if self.W_skip is None:
            return None
        to_read = (self.write.back(after, first) if self.write else after) @ self.W_skip.T
        return self.read.back(to_read, first) if self.read else to_read


def written(flow: Flow, pos: Int[Tensor, "n"], vectors: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_model"]:
    """What is written at some positions, each row at its own, as it enters the stream."""
    return flow.write.at(pos)(vectors) if flow.write else vectors


def read_by(flow: Flow, pos: Int[Tensor, "n"], vectors: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_model"]:
    """Vectors that read at some positions, each at its own, as gradients to the stream."""
    return flow.read.at(pos).back(vectors[:, None])[:, 0] if flow.read else vectors
