"""Are numbers numbers? A dictionary's weights are looked at before anything is computed from them, but not at every call: of a wide one it
takes a twelfth of a forward pass.

    check_whole(sae, "SAE")         raises ValueError where a weight is NaN or infinite
"""

from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

_WHOLE: WeakKeyDictionary[Any, dict[str, tuple]] = WeakKeyDictionary()  # dictionary → its matrices when no NaN was found in them


def check_whole(dictionary: Any, what: str, again: bool = False) -> None:
    """Raises ValueError where a weight is NaN or infinite. Matrices are looked at once, and anew where they were written to. What goes
    through `.data` is not seen, unless again: results that are NaN ask so."""
    known = _WHOLE.setdefault(dictionary, {})
    for name, weight in dictionary.named_parameters():
        state = weight.data_ptr(), version(weight), weight.dtype
        looked_at, was = known.get(name, (lambda: None, None))
        if not again and looked_at() is weight and was == state and version(weight) >= 0:
            continue
        if n := n_not_finite(weight):
            raise ValueError(f"the {what}'s {name} has {n} NaN or infinite values")
        if weight.ndim > 1:
            known[name] = ref(weight), state


def forget_whole(dictionary: Any) -> None:
    """After `to`, `half` and their like, which put other numbers into the same parameters and may put them into the same memory."""
    _WHOLE.pop(dictionary, None)


def n_not_finite(x: Tensor) -> int:
    """How many values are NaN or infinite. Their sum is looked at first: it is 20 times cheaper, and NaN spreads to it."""
    return 0 if torch.isfinite(x.sum()) else int((~torch.isfinite(x)).sum())


def version(weight: Tensor) -> int:
    """How often it was written to, but for what goes through `.data`; tensors made in inference mode do not count: −1."""
    return -1 if weight.is_inference() else weight._version
