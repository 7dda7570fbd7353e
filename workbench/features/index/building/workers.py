"""Shards read side by side by Ray's worker processes, on one machine or on several that share the folder. The files are those that one
process writes, where the arithmetic is the same; the shard of a worker that died is read again by its successor.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.features.index.building.collect import collect
from workbench.features.index.building.shards import Shard
from workbench.model.head import Head, unbridged
from workbench.model.model import load_model
from workbench.model.start import start_token
from workbench.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class Reader:
    """One worker process: holds the model and the SAEs."""

    def __init__(self, hf_model: torch.nn.Module, tokenizer: Any, start: str | None, saes: Mapping[str, Dictionary], n_threads: int):
        torch.set_num_threads(n_threads)
        model = load_model(hf_model, tokenizer=tokenizer, start_token=start)
        self.head, self.saes = Head(model, [sae.reads for sae in saes.values()]), saes

    def collect(self, shard: Shard, folder: Path) -> int:
        """The number of tokens read."""
        counts: list[int] = []
        collect(self.head, self.saes, shard, folder, counts.append)
        return sum(counts)


def collect_beside(
    model: "TransformerBridge",
    saes: Mapping[str, Dictionary],
    shards: Iterable[Shard],
    folder: Path,
    n_workers: int,
    on_tokens: Callable[[int], object],
) -> None:
    """`collect` on every shard. A shard of texts is in memory for every worker, no more."""
    try:
        import ray  # pyright: ignore[reportMissingImports]: an extra
        from ray.util import ActorPool  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("workers= needs Ray: pip install 'circuit-workbench[ray]'; without it, leave workers out") from None

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    folder, n_threads = folder.absolute(), max(1, torch.get_num_threads() // n_workers)
    held = ray.put(unbridged(model)), model.tokenizer, start_token(model).text or None, ray.put(dict(saes))
    start = ray.remote(max_restarts=-1, max_task_retries=-1)(Reader).remote
    pool = ActorPool([start(*held, n_threads) for _ in range(n_workers)])
    for shard in shards:
        if not pool.has_free():
            on_tokens(pool.get_next_unordered())
        pool.submit(lambda reader, shard: reader.collect.remote(shard, folder), shard)
    while pool.has_next():
        on_tokens(pool.get_next_unordered())
