"""What a graph of direct effects takes of memory: before the prompt is read, and once it is known how many nodes it has, before any edge.

edges      of every node to every one at its position or before, 4 bytes each: n² / 2 of them
meeting    changes of the lower nodes, a vector at every later position (effects.py), given back as the edges fill
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from workbench.model.memory import Need, kept_bytes, largest, pass_bytes
from workbench.sae.stack import Layer, encoding_bytes, writers

LESS = "a shorter prompt takes less"
MOST_EDGES = 3_000_000  # in the table, 80 bytes each with its names; a graph of more keeps its most influential features
TABLE_BYTES = 130  # of an edge in it, while it is put together


def direct_need(cfg: Any, stack: Sequence[Layer], n_pos: int) -> Need:
    """What reading the prompt takes: a pass, its attention kept, what every transcoder reads and writes, one's feature activations."""
    parts = {
        "passes of the model": pass_bytes(cfg, n_pos) + kept_bytes(cfg, n_pos),
        "activations": 4 * n_pos * sum(3 * it.W_enc.shape[0] + 4 * len(it.b_dec) for it in stack),
        "feature activations": max(encoding_bytes(it, n_pos) for it in stack),
    }
    return Need("reading this circuit", parts, LESS)


def effects_need(cfg: Any, stack: Sequence[Layer], counts: Int[np.ndarray, "pos n_layers_and_1"], middle: int) -> Need:
    """What its edges take. counts: the nodes of each position, its token, then layer by layer. middle: the layer where they meet."""
    n_pos, d = len(counts), 4 * cfg.d_model
    here, lower, met = counts.sum(1), counts[:, 1 : 1 + middle].sum(1), counts[1:, :middle].sum(1)
    n_written = sum(int(counts[:, 1 + below].sum()) for layer in range(len(stack)) for below in writers(stack, layer))
    vectors = d * (n_written + int(here.sum())) + 2 * kept_bytes(cfg, n_pos)
    pairs = int((here * here.cumsum()).sum())
    passing = 3 * d * n_pos * int(counts.sum(1).max())
    meeting = d * int(met.cumsum().sum())
    phases = [
        {"edges": 4 * int((lower * here.cumsum()).sum()), "meeting": meeting, "vectors of the nodes": vectors + passing},
        {"edges": 4 * pairs, "vectors of the nodes": vectors + passing},
        {"edges": 4 * pairs, "table": TABLE_BYTES * min(pairs, MOST_EDGES), "passes of the model": 2 * kept_bytes(cfg, n_pos)},
    ]
    return largest("this circuit", phases, LESS)
