"""Rows that go through the frozen model together, as gradients down or as changes up. Each belongs to a position and is known at a range of
positions: a gradient at its own and before it, a change at its own and after it. What is known at one position lies side by side, all
positions in one memory: a product with a block's weights is one product, of enough rows for the machine's rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

Rows = Float[Tensor, "pos n d_model"]  # of one position, at each position where they are known
AT_ONCE = 1_024  # rows of `flat`: enough for the machine's rate, more only take memory


@dataclass(frozen=True, eq=False)
class Spread:
    """`where`, `n`: by the position that rows belong to, ascending, the positions where they are known, and how many there are."""

    flat: Float[Tensor, "known d_model"]
    where: dict[int, range]
    n: dict[int, int]

    @classmethod
    def empty(cls, where: Mapping[int, range], like: Float[Tensor, "_ d_model"]) -> "Spread":
        """Nothing yet."""
        return cls(like.new_empty(0, like.shape[1]), dict(where), dict.fromkeys(where, 0))

    @cached_property
    def slices(self) -> dict[tuple[int, int], slice]:
        """(position, the position that rows belong to) → these rows there, in `flat`."""
        slices, end = {}, 0
        for pos in range(min(at.start for at in self.where.values()), max(at.stop for at in self.where.values())):
            for own, n in self.n.items():
                if pos in self.where[own]:
                    slices[pos, own] = slice(end, end := end + n)
        return slices

    @cached_property
    def pos(self) -> Int[Tensor, "known"]:
        """Of each row of `flat`."""
        at = self.slices.items()
        counts = torch.tensor([rows.stop - rows.start for _, rows in at], dtype=torch.long)
        return torch.tensor([pos for (pos, _), _ in at]).repeat_interleave(counts).to(self.flat.device)

    def at(self, pos: int) -> Float[Tensor, "n d_model"]:
        """All that is known at a position, by the position that it belongs to."""
        here = [rows for (at, _), rows in self.slices.items() if at == pos]
        return self.flat[here[0].start : here[-1].stop]

    def of(self, own: int, flat: Float[Tensor, "known _"]) -> list[Float[Tensor, "n _"]]:
        """One position's rows, at each position where they are known, in `flat` or another of as many rows."""
        return [flat[self.slices[pos, own]] for pos in self.where[own]]

    def grown(self, new: Mapping[int, Rows], is_first: bool) -> "Spread":
        """With new rows of each position before (is_first) or behind those that are there."""
        parts: list[Tensor] = []
        for (pos, own), rows in self.slices.items():
            both = self.flat[rows], new[own][pos - self.where[own].start]
            parts += reversed(both) if is_first else both
        return Spread(torch.cat(parts), self.where, {own: n + new[own].shape[1] for own, n in self.n.items()})


def groups(sizes: Mapping[int, int]) -> list[list[int]]:
    """Positions in the order given, as many together as are AT_ONCE rows in all (one at least), each group ascending."""
    made: list[list[int]] = []
    total = 0
    for pos, size in sizes.items():
        total += size
        if not made or total > AT_ONCE:
            made.append([])
            total = size
        made[-1].append(pos)
    return [sorted(group) for group in made]


def parted(rows: Float[Tensor, "n _"], like: Mapping[int, Sequence | Tensor]) -> dict[int, Float[Tensor, "_ _"]]:
    """Rows that stand one behind the other, by the position that they belong to."""
    return dict(zip(like, rows.split([len(each) for each in like.values()]), strict=True))
