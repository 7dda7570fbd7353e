"""How changes pass one frozen block with a transcoder in its MLP's place: gradients down, changes of the stream up, in their own memory.

    middle = before + attention(before)      after = middle + skip(read(middle))      features read `middle` and write into `after`

In a parallel block (GPT-NeoX, GPT-J) attention and MLP read `before`, and middle is what the MLP reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.direct.frozen import FrozenAttention, FrozenBlock, FrozenNorm, Stream
from workbench.circuits.direct.spread import Rows, Spread
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

    def back(self, gradients: Spread) -> None:
        """Gradients to the stream after the block become those to it before the block."""
        skipped = self._skip_back(gradients)
        if skipped is not None and not self.is_parallel:
            gradients.flat.add_(skipped)
        self.attention.back(gradients)
        if skipped is not None and self.is_parallel:
            gradients.flat.add_(skipped)

    def back_from(self, middle: Mapping[int, Float[Tensor, "n d_model"]], first: int) -> dict[int, Rows]:
        """Gradients to what the MLP reads, by position → to the stream before the block, at the positions from the first to there."""
        if self.is_parallel:
            before = {pos: each.new_zeros(pos + 1 - first, *each.shape) for pos, each in middle.items()}
        else:
            before = self.attention.back_from(middle, first)
        for pos, each in middle.items():
            before[pos][-1] += each
        return before

    def middle(self, changes: Spread) -> None:
        """Changes of the stream before the block become those of what the MLP reads."""
        if not self.is_parallel:
            self.attention.forth(changes)

    def middle_from(self, before: Mapping[int, Float[Tensor, "n d_model"]]) -> dict[int, Rows]:
        """The same for changes at one position each, → at all from there on."""
        if self.is_parallel:
            middle = {pos: each.new_zeros(len(self.x) - pos, *each.shape) for pos, each in before.items()}
        else:
            middle = self.attention.forth_from(before)
        for pos, each in before.items():
            middle[pos][0] += each
        return middle

    def after(self, changes: Spread) -> None:
        """Changes of what the MLP reads become those of the stream after the block, features left out."""
        skipped = self._skip(changes)
        if self.is_parallel:
            self.attention.forth(changes)
        if skipped is not None:
            changes.flat.add_(skipped)

    def _skip(self, changes: Spread) -> Float[Tensor, "known d_model"] | None:
        if self.W_skip is None:
            return None
        out = (self.read.forth(changes.flat, changes.pos) if self.read else changes.flat) @ self.W_skip
        return self.write.forth(out, changes.pos) if self.write else out

    def _skip_back(self, gradients: Spread) -> Float[Tensor, "known d_model"] | None:
        if self.W_skip is None:
            return None
        to_read = (self.write.back(gradients.flat, gradients.pos) if self.write else gradients.flat) @ self.W_skip.T
        return self.read.back(to_read, gradients.pos) if self.read else to_read


def written(flow: Flow, pos: Int[Tensor, "n"], vectors: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_model"]:
    """What is written at some positions, each row at its own, as it enters the stream."""
    return flow.write.forth(vectors, pos) if flow.write else vectors


def read_by(flow: Flow, pos: Int[Tensor, "n"], vectors: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_model"]:
    """Vectors that read at some positions, each at its own, as gradients to the stream."""
    return flow.read.back(vectors, pos) if flow.read else vectors
