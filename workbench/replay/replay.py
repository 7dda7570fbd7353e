"""Finish a forward pass from a hook point on, for many perturbed rows at once. Exact: the engine under circuits/.

Row r is the clean prompt with the activation replaced at one position or at several. Three ways to its last logits, each faster and exact:

    forward   the whole model, hooked, on copies of the prompt: right for any model
    whole     only the blocks after the hook (tail.py), then the needed logits of the last position
    prefix    the same for positions ≥ the perturbed one, which attend to the clean run's keys and values; the last block's last query only

Whether a way applies to this model and hook point is measured when a Replay is made, on strongly perturbed rows. A model of half-precision
weights is computed in float32 (precision.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.model.callers import alone
from workbench.model.gemm import machine_rate
from workbench.model.hooks import check_hook_name, hooked, last_logits
from workbench.model.memory import free_memory, is_out_of_memory, kept_bytes, objection, pass_bytes
from workbench.model.points import check_obeyed, check_point, installed
from workbench.replay.delta import Deltas, nothing_to_win
from workbench.replay.past import of_rows
from workbench.replay.precision import InFloat32
from workbench.replay.reading import Columns, Reading
from workbench.replay.tail import Perturbed, Tail
from workbench.shapes import RowIndex, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WAYS = ("forward", "whole", "prefix")
CPU_TOKENS = 256  # per batch at least: the more rows share a read of the weights, the less a product waits for it
CPU_FLOATS = 3_000_000  # per hidden activation of an MLP: buffers beyond 20 MB are given back and faulted in anew, a fifth of the time
CPU_SCORES = 2**24  # of attention, per layer; at least those of one whole row
KEYS_FLOATS = 2**27  # of keys and values that a batch's rows have before them, copied for each row: many of them where a prompt is long
CUDA_FLOATS = 2**29  # per tensor of a batch, in an MLP or of attention scores: a hundred times what fills a GPU
CALL_SECONDS, FLOPS = 1e-3, {"cpu": 2e11, "cuda": 5e13}  # the Python of one block call, and what the device could do meanwhile


def batch_tokens(cfg: Any, n_pos: int) -> int:
    """How many tokens, of all rows of a batch together, a CPU takes well."""
    n_tokens = max(CPU_TOKENS, CPU_FLOATS // (cfg.d_mlp or 4 * cfg.d_model))
    return min(n_tokens, max(n_pos, CPU_SCORES // (cfg.n_heads * n_pos)))


def batch_rows(cfg: Any, n_pos: int, start: int, n_tokens: int) -> int:
    """How many rows these are, of positions from `start` on, each with keys and values of its own before it."""
    return max(1, min(n_tokens // (n_pos - start), KEYS_FLOATS // (2 * cfg.d_model * n_pos)))


def rows_at_once(cfg: Any, device: torch.device, n_pos: int, start: int) -> int:
    """How many rows of positions from `start` on make a good batch on a device, as its memory is now."""
    n_tokens = batch_tokens(cfg, n_pos)
    if device.type == "cuda":
        d_mlp = cfg.d_mlp or 4 * cfg.d_model
        alive = 6 * d_mlp + 12 * cfg.d_model + 4 * cfg.n_heads * n_pos  # floats per token, at once
        free = free_memory(device)
        assert free is not None
        n_tokens = min(free // (2 * 4 * alive), CUDA_FLOATS // max(d_mlp, cfg.n_heads * n_pos))
    return batch_rows(cfg, n_pos, start, n_tokens)


def replay_bytes(cfg: Any, n_pos: int, n_rows: int) -> int:
    """What a Replay of a prompt, and n_rows rows that it finishes, take on a CPU: two strongly changed prompts run whole to find the way,
    then batches, with what is copied for each row of the keys and values before it, and attention to them."""
    scores, masks, past = 4 * cfg.n_heads * n_pos, 10 * n_pos**2, 8 * cfg.n_layers * n_pos * cfg.d_model
    n_tokens = min(batch_tokens(cfg, n_pos) + n_pos, (n_rows + 1) * n_pos)
    keys = 4 * min(KEYS_FLOATS, 2 * cfg.d_model * n_pos * (n_rows + 1))
    batch = kept_bytes(cfg, n_pos, 2) + 2 * n_tokens * scores + keys
    return masks + past + max(pass_bytes(cfg, n_pos, 2) + n_pos * scores, batch)


class Replay:
    """The clean run of one prompt, tokens (1, pos), and the rest of the model as a function of what stands at a hook point. Of several
    prompts of one length, tokens (prompt, pos), rows are finished together.

    way: how rows are finished, the fastest that applies here. why_not: what keeps the next faster one out, "" if nothing does.
    clean (pos, d_in): the activation at the hook point, of the first prompt; of_each (prompt, pos, d_in) of all. clean_logits (prompt,
    d_vocab): the model's own, at the last position.
    """

    @torch.no_grad()
    def __init__(self, model: "TransformerBridge", hook_name: str, tokens: Tokens, way: str = WAYS[-1]):
        check_hook_name(model, hook_name)
        check_point(model, hook_name)
        check_obeyed(model, hook_name)
        assert way in WAYS, f"{way!r} is none of {WAYS}"
        self.model, self.hook_name, self.tokens, self.n_pos = model, hook_name, tokens, tokens.shape[1]
        self.way, self.why_not = "forward", self._why_no_tail()
        self._in_float32, self._form = InFloat32(model), nullcontext  # of products
        with alone(model), self._in_float32:
            self._tail = Tail(model, self.hook_name, tokens)
            self.of_each, self.clean_logits = self._tail.clean, self._tail.clean_logits
            self.clean = self.of_each[0]
            self._read = Reading(model, tokens, self.clean_logits)
            if not self.why_not and way != "forward":
                self._find_way(WAYS[1 : WAYS.index(way) + 1])

    @torch.no_grad()
    def logits(
        self,
        pos: RowIndex,
        x: Float[Tensor, "n_rows d_in"],
        columns: Columns,
        row: RowIndex | None = None,
        prompt: Int[Tensor, "n_copies"] | None = None,
    ) -> Float[Tensor, "n_changed n_columns"]:
        """The last logits of each changed row, in float32 at least. Where memory is short the batch is halved until it fits.

        Row i has x[i] at pos[i]. Where rows are changed at several positions, row[i] (0, 1, … ascending, none left out) says whose x[i] is.
        prompt: of several prompts, which one each row is a copy of.
        """
        assert (prompt is None) == (len(self.tokens) == 1), f"{len(self.tokens)} prompts: whose copies are these rows?"
        row = torch.arange(len(pos), device=pos.device) if row is None else row  # mostly: each row is changed at one position
        n_rows = int(row[-1]) + 1
        try:
            with alone(self.model), machine_rate(), self._in_float32, self._form():
                return self._finish(self.way, Perturbed(row, pos, x, n_rows, prompt), columns)
        except (RuntimeError, MemoryError) as error:
            if n_rows == 1 or not is_out_of_memory(error):
                raise
        half = n_rows // 2  # outside of the handler, whose traceback keeps the failed batch alive
        cut = int((row < half).sum())
        whose = (None, None) if prompt is None else (prompt[:half], prompt[half:])
        first, second = (pos[:cut], x[:cut], columns, row[:cut], whose[0]), (pos[cut:], x[cut:], columns, row[cut:] - half, whose[1])
        return torch.cat([self.logits(*first), self.logits(*second)])

    def why_no_delta(self) -> str:
        """What keeps the delta form out, "" if nothing does."""
        assert len(self.tokens) == 1, "the delta form has the clean products of one prompt"
        if self.way == "forward":
            return f"the delta form needs blocks that run apart: {self.why_not}"
        return nothing_to_win(self.clean.device)

    @contextmanager
    def in_delta_form(self) -> Iterator[Deltas]:
        """Within, `logits` multiplies what was changed only, in 16 bits: faster, and rounded (delta.py). `why_no_delta` first."""
        with alone(self.model), machine_rate(), self._in_float32, torch.no_grad():
            deltas = self._tail.deltas
        self._form = self._tail.in_delta_form
        try:
            yield deltas
        finally:
            self._form = nullcontext

    def batches(self, pos: RowIndex) -> Iterator[RowIndex]:
        """Which rows to give `logits` together: of like positions (a row's first changed one), to share their clean prefix; as many as
        the machine takes well."""
        # a token through a block takes about 24 · d_model² floating-point operations: 12 · d_model² weights, a multiply and an add each
        overhead = CALL_SECONDS * FLOPS.get(pos.device.type, 1e14) / (24 * self.model.cfg.d_model**2)  # in tokens through a block
        group: list[Tensor] = []
        start = 0
        for position in pos.unique().tolist():
            rows = (pos == position).nonzero()[:, 0]
            if group and self.way == "prefix" and len(rows) * (position - start) > overhead:  # joining would cost more than a call
                yield from torch.cat(group).split(self._n_rows(start))
                group = []
            start = start if group else position
            group.append(rows)
        if group:
            yield from torch.cat(group).split(self._n_rows(start))

    def _n_rows(self, start: int) -> int:
        return rows_at_once(self.model.cfg, self.clean.device, self.n_pos, start if self.way == "prefix" else 0)

    def _finish(self, way: str, rows: Perturbed, columns: Columns) -> Tensor:
        if way == "forward":
            with hooked(self.model, self.hook_name, rows.put):
                return columns.of(last_logits(self.model, of_rows(self.tokens, rows.n_rows, rows.prompt)))
        return self._read(self._tail.whole(rows) if way == "whole" else self._tail.after_prefix(rows), columns)

    def _why_no_tail(self) -> str:
        """Why the blocks cannot be run apart from the model: the hook stands outside them, or someone's hooks must see whole passes."""
        others = installed(self.model)
        if others:
            return f"other hooks are installed at {', '.join(others)}"
        return "" if self.hook_name.startswith("blocks.") else f"{self.hook_name} is not inside a block"

    def _find_way(self, ways: tuple[str, ...]) -> None:
        """Take the fastest way that agrees with a whole forward pass on strongly perturbed rows: two, at several positions, since masks and
        position biases that suit one row can fail on a batch. Of several prompts one row each, and the first two once more, so that a row
        is not its prompt's number. The fastest is tried first: where it holds, the others cost nothing."""
        rows = self._strongly_perturbed()
        d_vocab = self.clean_logits.shape[-1]
        columns = Columns((*range(0, d_vocab, max(1, d_vocab // 64)), d_vocab - 1))  # of the mean, `measure` has compared every column
        expected, clean = self._tail.note_batch(lambda: self._finish("forward", rows, columns)), columns.of(self.clean_logits)
        clean = clean if rows.prompt is None else clean[rows.prompt]
        # Rounding errors of n_layers blocks add up as the steps of a random walk; four times that is no difference.
        rounding = 4 * self.model.cfg.n_layers**0.5 * torch.finfo(self.clean.dtype).eps * expected.abs().max()
        for way in reversed(ways):
            try:
                self._read.measure(self._tail.note_past() if way == "prefix" else self._tail.whole(self._nothing_changed()))
                difference = (self._finish(way, rows, columns) - expected).abs().max()
            except Exception as error:  # whatever an unknown architecture objects to: the slower way is right for it
                self.why_not = objection(way, error)
                continue
            # An exact way differs by rounding alone, a wrong one by about what the perturbation does: a thousandth of it lies between.
            if difference <= 1e-3 * (expected - clean).abs().max() + rounding:
                self.way = way
                return
            self.why_not = f"{way}: logits differ by {difference:.2g} of {expected.abs().max():.2g}"

    def _strongly_perturbed(self) -> Perturbed:
        n, device = len(self.tokens), self.clean.device
        third, half, last = self.n_pos // 3, self.n_pos // 2, self.n_pos - 1
        if n == 1:
            pos, row = torch.tensor([third, half, last], device=device), torch.tensor([0, 1, 1], device=device)
            return Perturbed(row, pos, self.clean[pos].flip(-1), n_rows=2)
        prompt = torch.tensor([1, 0, *range(n)], device=device)
        pos = torch.tensor([third, half, last], device=device)[torch.arange(len(prompt), device=device) % 3]
        row = torch.arange(len(prompt), device=device)
        return Perturbed(row, pos, self.of_each[prompt, pos].flip(-1), len(prompt), prompt)

    def _nothing_changed(self) -> Perturbed:
        n, device = len(self.tokens), self.clean.device
        row, first = torch.arange(n, device=device), torch.zeros(n, dtype=torch.long, device=device)
        return Perturbed(row, first, self.of_each[:, 0], n, row if n > 1 else None)
