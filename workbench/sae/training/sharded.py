"""Training past one device: every process holds d_sae / n_ranks of the features, and all of them see the same batch.

    torchrun --nproc-per-node 8 --no-python workbench train …        or a script that calls train_sharded

    x_hat = b_dec + Σ_ranks feature_acts[rank] @ W_dec[rank]         one all-reduce of (batch, d_in) a step
    TopK: each rank gathers the k largest of every other; the k-th largest of these is the row's threshold, exactly

All else is local: x_hat and the error are the same everywhere, so a rank's gradients are those that its features have in the whole. A step
sends batch · d_in numbers, where data parallelism would send every gradient. Rank 0 reads the text, runs the language model and deals out
the batches; so the stream's position, and with it a checkpoint, does not depend on the number of ranks.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from workbench.files import locked, made_folder
from workbench.model.gemm import product_dtype
from workbench.sae.architectures import select
from workbench.sae.dictionary import Dictionary
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.entries import Entries
from workbench.sae.kernels.objective import Step, auxk_step, plain_step
from workbench.sae.kernels.proposal import propose
from workbench.sae.training.engine import Engine
from workbench.sae.training.learner import Learner, Metrics, new_sae
from workbench.sae.training.monitor import Monitor
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.sharded_checkpoint import ShardedCheckpoint, export
from workbench.sae.training.source import Source, Stream, Streams, TrainingError, describe, source_of
from workbench.sae.training.train import check_is_done, check_memory, finished, first_of, interruptible, learn


def train_sharded(
    stream: Stream | Streams | None,
    cfg: TrainConfig,
    folder: str | Path,
    progress: bool = True,
    *,
    predict: str | None = None,
    checkpoint_every: int = 1000,
    on_metrics: Callable[[Metrics], None] | None = None,
) -> None:
    """Train the SAE that `train` would, with `predict` the transcoder, its features dealt out among the processes of torchrun, and
    write it to `folder`, a place that all of them see. Every process calls it: rank 0 brings the stream, the others None. The same call
    resumes, on any number of ranks. Copies are neither counted nor merged: a shard does not see the others'.

    Raises TrainingError as `train` does, and where the features cannot be dealt out evenly.
    """
    if cfg.widths:
        raise TrainingError("nested widths are trained in one process, by train")
    if cfg.merge_copies:
        raise TrainingError("a shard does not see the others' copies: train in one process, or merge_copies(sae, x) once it is trained")
    rank, _ = join()
    source, folder = shared(source_of(stream, cfg, predict) if stream is not None else None), Path(folder)
    if finished([folder], [describe(source, cfg)]):
        return
    with locked(made_folder(folder)) if rank == 0 else nullcontext():
        _train_sharded(stream, cfg, source, folder, progress, checkpoint_every, on_metrics)


def _train_sharded(
    stream: Stream | Streams | None,
    cfg: TrainConfig,
    source: Source,
    folder: Path,
    progress: bool,
    checkpoint_every: int,
    on_metrics: Callable[[Metrics], None] | None,
) -> None:
    rank, device = join()
    learner = Learner(source, cfg, new_shard(source, cfg, device), engine(cfg))
    checkpoint = ShardedCheckpoint(folder, [describe(source, cfg)], stream, checkpoint_every)
    if n_done := checkpoint.seek():
        checkpoint.restore([learner])
    with interruptible(is_on=True) as interrupted:
        dealt = Dealt(stream, source, device, interrupted)
        first, batches = first_of(dealt)
        check_memory([learner], first, progress and rank == 0)
        with Monitor([learner], folder, progress, on_metrics) if rank == 0 else Monitor([learner]) as monitor:
            learn([learner], islice(batches, cfg.n_steps - n_done), monitor, checkpoint, lambda: dealt.is_stopped)
    check_is_done([learner], checkpoint)
    checkpoint.save([learner], cfg.n_steps)
    if rank == 0:
        export(folder).save(folder)
        checkpoint.remove()


def join() -> tuple[int, torch.device]:
    """This process's rank, once it has met the others, and its device."""
    if not dist.is_initialized():
        dist.init_process_group()
    rank = dist.get_rank()
    if not torch.cuda.is_available():
        return rank, torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return rank, device


def leave() -> None:
    """Ends what `join` began. A process that exits without it now and then aborts in the threads that are left, its work done."""
    dist.destroy_process_group()


def shared(source: Source | None) -> Source:
    """Rank 0's source, on every rank."""
    box = [source]
    dist.broadcast_object_list(box, src=0)
    assert box[0] is not None
    return box[0]


def new_shard(source: Source, cfg: TrainConfig, device: torch.device) -> Dictionary:
    """This rank's features, as they start in the whole."""
    n_ranks, rank = dist.get_world_size(), dist.get_rank()
    n_features, rest = divmod(cfg.d_sae, n_ranks)
    if rest:
        raise TrainingError(f"{cfg.d_sae:,} features cannot be dealt out evenly among {n_ranks} ranks; {cfg.d_sae - rest:,} could")
    return new_sae(source, replace(cfg, d_sae=n_features), device, first=rank * n_features)


class Dealt:
    """Rank 0's batches on every rank, and whether rank 0 was asked to stop."""

    def __init__(self, stream: Stream | Streams | None, source: Source, device: torch.device, interrupted: Callable[[], bool]):
        self.stream, self.source, self.device, self.interrupted, self.is_stopped = stream, source, device, interrupted, False
        self.widths = {source.hook_name: source.d_in} | ({source.predict: source.d_out or 0} if source.predict else {})

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        batches = iter(self.stream) if self.stream is not None else iter(())
        while True:
            batch = next(batches, None)
            given = () if batch is None else [part for part in self.source.of(batch) if part is not None]
            head = torch.tensor([len(given[0]) if given else 0, self.interrupted()], device=self.device)
            dist.broadcast(head, src=0)
            n_rows, is_stopped = head.tolist()
            if not n_rows:
                return
            self.is_stopped = bool(is_stopped)
            parts = {name: torch.empty(n_rows, width, device=self.device) for name, width in self.widths.items()}
            for n, part in enumerate(parts.values()):
                if given:
                    part.copy_(given[n])
                dist.broadcast(part, src=0)
            yield parts


def engine(cfg: TrainConfig) -> Engine:
    """How shards step: dense or sparse, each rank as its own features ask for; what they tell each other is the same in both."""
    plain = partial(plain_step, selected=selected, total=total)

    def step(sae: Dictionary, x: Tensor, l1: float, density: float, y: Tensor | None) -> Step:
        if cfg.precision == "bfloat16" and product_dtype(x.device.type) == torch.bfloat16:
            with torch.autocast(x.device.type, torch.bfloat16):
                return plain(sae, x, l1, y)
        if cfg.is_plain or density > kernels.DENSEST:
            return plain(sae, x, l1, y)
        proposed = propose(sae, x)  # what is among the k largest of all is among the k largest of its shard
        if len(proposed.rows) > kernels.DENSEST * len(x) * sae.cfg.d_sae:
            return plain(sae, x, l1, y)
        return kernels.step_at(proposed, sae, x, l1, y, kept=kept, total=total)

    def smallest(sae: Dictionary, x: Tensor) -> Tensor:
        feature_acts = selected(cfg.architecture, sae.pre_acts(x), k=cfg.k)
        least = torch.where(feature_acts > 0, feature_acts, torch.inf).min()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        return least

    return Engine(step, partial(auxk_step, largest=topk, total=total), smallest, total, is_whole=False)


def selected(architecture: str, pre_acts: Tensor, *, k: int | None = None, threshold: Tensor | None = None) -> Tensor:
    """`select` among the features of all ranks."""
    if architecture == "topk":
        return topk(pre_acts, k or 0)
    if architecture == "batchtopk":
        return topk(pre_acts.reshape(1, -1), (k or 0) * len(pre_acts)).view_as(pre_acts)
    return select(architecture, pre_acts, k=k, threshold=threshold)


def topk(pre_acts: Tensor, k: int) -> Tensor:
    """The k largest of each row over all ranks, where they are positive: each rank's own part of them."""
    own = pre_acts.detach().topk(min(k, pre_acts.shape[1])).values
    return torch.relu(pre_acts) * (pre_acts >= kth_largest(own, k))


def kept(sae: Dictionary, proposed: Entries, pre_acts: Tensor) -> Tensor:
    """`kernels.is_kept` among the features of all ranks."""
    k, n_rows = sae.cfg.k or 0, proposed.n_rows
    if sae.cfg.architecture == "topk":
        candidates = kernels.is_among_k_largest(proposed.rows, pre_acts, k).nonzero()[:, 0]
        candidates = candidates[proposed.rows[candidates].argsort()]
        rows = proposed.rows[candidates]
        place = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
        own = pre_acts.new_zeros(n_rows, k).index_put_((rows, place), pre_acts[candidates])
        return (pre_acts > 0) & (pre_acts >= kth_largest(own, k)[proposed.rows, 0])
    if sae.cfg.architecture == "batchtopk":
        own = pre_acts.topk(min(k * n_rows, len(pre_acts))).values
        return (pre_acts > 0) & (pre_acts >= kth_largest(own[None], k * n_rows)[0])
    return kernels.is_kept(sae, proposed, pre_acts)


def kth_largest(own: Tensor, k: int) -> Tensor:
    """(rows, 1): the k-th largest of each row over all ranks, where `own` (rows, ≤ k) holds this rank's largest; at least 0."""
    own = torch.nn.functional.pad(own.clamp(min=0), (0, k - own.shape[1])).contiguous()  # a rank may have fewer than k
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    return torch.cat(every, 1).topk(k).values[:, -1:]


def total(part: Tensor) -> Tensor:
    """The sum over all ranks. Its gradient reaches each rank's part unchanged: every rank computes the same loss from the sum."""
    whole: Tensor = _Total.apply(part)  # type: ignore[reportAssignmentType]
    return whole


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]
