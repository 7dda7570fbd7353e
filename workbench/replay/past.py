"""What the clean run leaves to later positions, as a block asks for it: through the KV cache that it is handed.

    attention        the keys and values of the positions before `start`, then the batch's own
    a convolution    its inputs at the last positions before `start`, as many as its kernel is long
    a recurrence     the state after position start − 1: the clean positions since the last `start` are run through the block

Nothing else of a cache is needed here: these stand in its place and answer what attention, Mamba, Mamba 2, gated delta rules and short
convolutions of transformers ask of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.shapes import RowIndex

Place = tuple[int, int]  # (layer, which of its states)


@dataclass
class Past:
    """What was noted in the clean run, and the recurrent states after the first n_states positions (none at first)."""

    keys_values: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    indexed: dict[int, Float[Tensor, "1 pos d_index"]] = field(default_factory=dict)  # keys by which a layer chooses where to attend
    convolved: dict[Place, tuple[Float[Tensor, "1 channel pos"], int]] = field(default_factory=dict)  # inputs, length of the kernel
    recurrent: dict[Place, Tensor] = field(default_factory=dict)
    entering: dict[int, Float[Tensor, "1 pos d_model"]] = field(default_factory=dict)  # what enters each block that has states
    n_states: int = 0
    stepped: set[int] = field(default_factory=set)  # blocks that take up a state for one position only


def of_rows(clean: Tensor, n_rows: int, prompt: RowIndex | None) -> Tensor:
    """What the clean run has for its one prompt, for n_rows copies of it; where it has several prompts, for rows of these."""
    return clean.expand(n_rows, *clean.shape[1:]) if prompt is None else clean.index_select(0, prompt)


class Keys:
    """Stands where a block expects its KV cache: gets the new keys and values, gives those to attend to (n_before of them clean)."""

    def __init__(self, update: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]], n_before: int):
        self._update, self.n_before = update, n_before

    def update(self, k: Tensor, v: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What to attend to: keys and values (batch, head, pos, d_head)."""
        return self._update(k, v, layer_idx)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many positions come before."""
        return self.n_before


class Continued:
    """For n_rows rows from position `start` on: what came before it is the clean run's; of several prompts, that of each row's own."""

    def __init__(self, past: Past, start: int, n_rows: int, prompt: RowIndex | None = None):
        self.past, self.start, self.n_rows, self.prompt = past, start, n_rows, prompt

    def update(self, k: Tensor, v: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """A batch's keys and values (batch, head, pos ≥ start, d_head), led by the clean run's."""
        known = (clean[:, :, : self.start] for clean in self.past.keys_values[layer_idx])
        clean_k, clean_v = (of_rows(each, len(k), self.prompt) for each in known)
        return torch.cat([clean_k, k], dim=2), torch.cat([clean_v, v], dim=2)

    def update_indexer(self, keys: Tensor, layer_idx: int) -> Tensor:
        """The keys by which positions are chosen (batch, pos, d_index), led by the clean run's."""
        return torch.cat([self.past.indexed[layer_idx][:, : self.start].expand(len(keys), -1, -1), keys], dim=1)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """A convolution's last inputs before `start` (batch, channel, kernel); None at the beginning of the text."""
        if not self.start:
            return None
        inputs, n_kernel = self.past.convolved[layer_idx, state_idx]
        state = inputs[..., max(0, self.start - n_kernel) : self.start]
        return torch.nn.functional.pad(state, (n_kernel - state.shape[-1], 0)).repeat(self.n_rows, 1, 1)

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **_: Any) -> Tensor:
        """The inputs of a convolution (batch, channel, pos), led by those before `start`."""
        state = self.get_conv_state(layer_idx, state_idx)
        return conv_states if state is None else torch.cat([state, conv_states], dim=-1)

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """A copy: one position alone is computed in place."""
        if not self.start:
            return None
        assert self.past.n_states == self.start, f"states after {self.past.n_states} positions, asked for those after {self.start}"
        state = self.past.recurrent.get((layer_idx, state_idx))
        return None if state is None else state.repeat(self.n_rows, *(1 for _ in state.shape[1:]))

    def update_recurrent_state(self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **_: Any) -> Tensor:
        """The state as it is: none is kept."""
        return recurrent_states

    def is_recording_past(self, layer_idx: int) -> bool:
        """True: a convolution at one position then takes the way of several, which asks here and writes nothing in place."""
        return True

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        """Does anything come before?"""
        return self.start > 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many positions come before."""
        return self.start


class Carried(Continued):
    """The same, for positions that come in several calls: what each leaves to the next is kept (states, inputs of convolutions)."""

    def __init__(self, past: Past, start: int, n_rows: int):
        super().__init__(past, start, n_rows)
        self.states: dict[Place, Tensor] = {}
        self._inputs: dict[Place, Tensor] = {}

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        inputs = self._inputs.get((layer_idx, state_idx))
        return super().get_conv_state(layer_idx, state_idx) if inputs is None else inputs

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **options: Any) -> Tensor:
        inputs = super().update_conv_state(conv_states, layer_idx, state_idx)
        n_kernel = self.past.convolved[layer_idx, state_idx][1]
        kept = inputs[..., -n_kernel:]
        self._inputs[layer_idx, state_idx] = torch.nn.functional.pad(kept, (n_kernel - kept.shape[-1], 0))
        return inputs

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        place = layer_idx, state_idx
        state = self.states.get(place)
        state = super().get_recurrent_state(layer_idx, state_idx) if state is None else state
        if state is not None:
            self.states[place] = state  # where it is changed in place, nothing more is said
        return state

    def update_recurrent_state(self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **_: Any) -> Tensor:
        self.states[layer_idx, state_idx] = recurrent_states
        return recurrent_states


class Noted(Carried):
    """For the clean run itself: keeps what comes by."""

    def __init__(self, past: Past, start: int = 0):
        super().__init__(past, start, n_rows=1)

    def update(self, k: Tensor, v: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Once noted, the whole run's: a mask hides the later ones."""
        return self.past.keys_values.setdefault(layer_idx, (k, v))

    def update_indexer(self, keys: Tensor, layer_idx: int) -> Tensor:
        return self.past.indexed.setdefault(layer_idx, keys)

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **options: Any) -> Tensor:
        n_kernel = options.get("conv_kernel_size") or conv_states.shape[-1]
        self.past.convolved.setdefault((layer_idx, state_idx), (conv_states, n_kernel))
        return super().update_conv_state(conv_states, layer_idx, state_idx)
