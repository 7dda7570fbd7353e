"""From one hook point to a later one, for many perturbed rows at once: the engine under the edges of a circuit.

Row r is the clean prompt with the activation at the first hook point replaced; what comes back is the activation at the second one. Only
the blocks between the two run, in one of three ways, each faster and exact (replay.py has them on the way to the logits):

    forward   the model's own pass, hooked, left as soon as it comes to the second hook point
    whole     the blocks between
    prefix    the same for positions ≥ the first perturbed one, which attend to the clean run's keys and values

One clean run serves all the hook points. Which way applies is measured on one strongly perturbed row of every stretch.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model.callers import alone
from workbench.model.gemm import machine_rate
from workbench.model.hooks import check_hook_name, hooked, last_logits
from workbench.model.memory import objection
from workbench.model.points import installed, place, place_of
from workbench.replay.past import Continued
from workbench.replay.precision import InFloat32
from workbench.replay.replay import WAYS, rows_at_once
from workbench.replay.tail import Perturbed, Tail
from workbench.shapes import RowIndex, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STREAM = "blocks.0.hook_resid_pre"  # where the tokens' embeddings enter


class Between(Tail):
    """The clean run of one prompt, tokens (1, pos), noted at several hook points in the order in which the model comes to them.

    clean_at: hook name → its activation (pos, d_in). way, why_not: as a Replay has them.
    """

    @torch.no_grad()
    def __init__(self, model: "TransformerBridge", hook_names: Sequence[str], tokens: Tokens, way: str = WAYS[-1]):
        for name in hook_names:
            check_hook_name(model, name)
        assert tokens.shape[0] == 1, f"one prompt at a time, got {tokens.shape[0]}"
        self.tokens, self.way, self.why_not = tokens, "forward", self._why_no_blocks(model, hook_names)
        self._place = {name: place_of(model, name) for name in hook_names}
        self.in_float32 = InFloat32(model)
        caught: dict[str, list[Tensor]] = {}
        starts = {f"blocks.{block}.hook_resid_pre" for block, _ in self._place.values() if 0 <= block < model.cfg.n_layers}
        with ExitStack() as stack:
            stack.enter_context(self.in_float32)
            for name in {*hook_names, *starts}:
                caught[name] = []
                stack.enter_context(hooked(model, name, lambda x, name=name: caught[name].append(x[0].flatten(1).clone())))
            super().__init__(model, hook_names[0], tokens)
        for name, found in caught.items():
            assert len(found) == 1, f"{name} fired {len(found)} times in one forward pass, expected once"
        self.clean_at = {name: caught[name][0] for name in hook_names}
        self._before = {place(name)[0]: caught[name][0] for name in starts}
        if not self.why_not and way != "forward":
            with alone(model), self.in_float32:
                self._find_way(WAYS[1 : WAYS.index(way) + 1])

    def reach(self, first: str, then: str, rows: Perturbed) -> tuple[Float[Tensor, "n_rows pos d_in"], int]:
        """(the activation at `then` from a position on, that position): before it every row is the clean prompt."""
        with torch.no_grad(), alone(self.model), machine_rate(), self.in_float32:
            return self._reach(self.way, first, then, rows)

    def n_rows(self, start: int) -> int:
        """How many rows from position `start` on make a good batch."""
        return rows_at_once(self.model.cfg, self.clean.device, self.n_pos, start if self.way == "prefix" else 0)

    def _reach(self, way: str, first: str, then: str, rows: Perturbed) -> tuple[Tensor, int]:
        if way == "forward":
            return self._hooked(first, then, rows), 0
        start = int(rows.pos.min()) if way == "prefix" else 0
        past = self._past_before(start, rows.n_rows) if way == "prefix" else None
        (block, is_inner), (last, ends_inside) = self._place[first], self._place[then]
        if first == then:
            return rows.put(self.clean_at[first][start:].expand(rows.n_rows, -1, -1), start), start
        if is_inner:
            y = self._before[block][start:].expand(rows.n_rows, -1, -1)
            with hooked(self.model, first, lambda value: rows.put(value, start)):
                if block == last:  # both inside one block
                    return self._caught(then, block, y, start, past), start
                y = self._block(block, y, start, past)
        else:
            y = rows.put(self.clean_at[first][start:].expand(rows.n_rows, -1, -1), start)
        for k in range(block + is_inner, last):
            y = self._block(k, y, start, past)
        return (self._caught(then, last, y, start, past) if ends_inside else y), start

    def _caught(self, hook_name: str, block: int, y: Tensor, start: int, past: Continued | None) -> Tensor:
        """What stands at a hook point inside the block, which is left there."""
        with _catching(self.model, hook_name) as found, suppress(_Reached):
            self._block(block, y, start, past)
        return found[0]

    def _hooked(self, first: str, then: str, rows: Perturbed) -> Tensor:
        if first == then:
            return rows.put(self.clean_at[first].expand(rows.n_rows, -1, -1))
        with hooked(self.model, first, rows.put), _catching(self.model, then) as found, suppress(_Reached):
            last_logits(self.model, self.tokens.expand(rows.n_rows, -1))
        return found[0]

    @staticmethod
    def _why_no_blocks(model: "TransformerBridge", hook_names: Sequence[str]) -> str:
        """Why the blocks cannot be run apart from the model: someone's hooks must see whole passes, or a hook point is outside them."""
        others = installed(model)
        if others:
            return f"other hooks are installed at {', '.join(others)}"
        outside = [name for name in hook_names if not name.startswith("blocks.")]
        return f"{outside[0]} is not inside a block" if outside else ""

    def _find_way(self, ways: Sequence[str]) -> None:
        """Take the fastest way that gives what the model's own pass gives, on two strongly perturbed rows of every stretch."""
        names = list(self._place)
        stretches = list(zip(names[:-1], names[1:], strict=True))
        expected = {stretch: self._hooked(*stretch, self._strong(stretch[0])) for stretch in stretches}
        for way in ways:
            try:
                if way == "prefix":
                    self.note_past()
                for stretch in stretches:
                    found, start = self._reach(way, *stretch, self._strong(stretch[0]))
                    wanted, clean = expected[stretch][:, start:], self.clean_at[stretch[1]][start:]
                    rounding = 16 * torch.finfo(clean.dtype).eps * wanted.abs().max()
                    difference = (found - wanted).abs().max()
                    if not difference <= 1e-3 * (wanted - clean).abs().max() + rounding:
                        self.why_not = f"{way}: {stretch[1]} differs by {difference:.2g} of {wanted.abs().max():.2g}"
                        return
            except Exception as error:  # what an unknown architecture objects to: the slower way is right
                self.why_not = objection(way, error)
                return
            self.way = way

    def _strong(self, hook_name: str) -> Perturbed:
        """Two rows, perturbed at two positions: what a batch of one row would hide shows."""
        clean = self.clean_at[hook_name]
        pos = torch.tensor([self.n_pos // 2, self.n_pos - 1], device=clean.device)
        return Perturbed(torch.arange(2, device=clean.device), pos, clean[pos].flip(-1), n_rows=2)


class _catching(ExitStack):
    """`with _catching(model, hook_name) as found:` the first activation there goes into `found`, and the pass is left."""

    def __init__(self, model: "TransformerBridge", hook_name: str):
        super().__init__()
        self.found: list[Tensor] = []
        self.enter_context(hooked(model, hook_name, self._catch))

    def _catch(self, x: Tensor) -> None:
        self.found.append(x.flatten(2).clone())
        raise _Reached

    def __enter__(self) -> list[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.found


class _Reached(Exception):
    """Leaves the pass."""


def rows_at(pos: RowIndex, x: Float[Tensor, "n_rows d_in"]) -> Perturbed:
    """One changed position a row."""
    return Perturbed(torch.arange(len(pos), device=pos.device), pos, x, len(pos))
