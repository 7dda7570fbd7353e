"""What blocks are given beside the residual stream, masks and positions: for some of the positions, for several rows."""

from typing import Any

from torch import Tensor

from workbench.shapes import RowIndex

# Which axis of a block's other keyword arguments counts the positions it computes; of one that is not named here, the first that is as long
# as the prompt. ALiBi's counts those that are attended to, which stay.
POS_AXIS = {"attention_mask": -2, "position_embeddings": -2, "position_ids": -1, "cache_position": -1, "alibi": None}


def from_position(name: str, value: Any, start: int, n_pos: int, n: int) -> Any:
    """A block's keyword argument for n positions from `start` on, of n_pos. Axes of size 1 are for all positions."""
    if isinstance(value, tuple):
        return tuple(from_position(name, part, start, n_pos, n) for part in value)
    if n == n_pos or not isinstance(value, Tensor):
        return value
    axis = POS_AXIS[name] if name in POS_AXIS else next((axis for axis, size in enumerate(value.shape) if size == n_pos), None)
    return value if axis is None or value.shape[axis] == 1 else value.narrow(axis, start, n)


def longer(one: Any, several: Any) -> Any:
    """Along which axis is what two rows get longer than what one gets? None: along none."""
    if isinstance(one, tuple) and isinstance(several, tuple) and len(one) == len(several):
        return tuple(map(longer, one, several))
    if not isinstance(one, Tensor) or not isinstance(several, Tensor) or one.ndim != several.ndim:
        return None
    return next((axis for axis in range(one.ndim) if several.shape[axis] > one.shape[axis]), None)


def repeated(value: Any, axis: Any, n_rows: int, prompt: RowIndex | None = None) -> Any:
    """A keyword argument of the clean run's one row, for n_rows; of several, for rows of these prompts."""
    if isinstance(axis, tuple):
        return tuple(repeated(part, along, n_rows, prompt) for part, along in zip(value, axis, strict=True))
    if axis is None:
        return value
    if prompt is not None and value.shape[axis] > 1:
        return value.index_select(axis, prompt)
    if value.shape[axis] == 1:  # no memory is needed for copies
        return value.expand(*value.shape[:axis], n_rows, *value.shape[axis + 1 :])
    return value.repeat(*(n_rows if other == axis else 1 for other in range(value.ndim)))
