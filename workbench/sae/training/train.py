"""Train SAEs and transcoders: one loop, from a stream of activations to frozen weights, that goes on where it was stopped.

    sae  = train(stream, TrainConfig(d_sae=16_384), folder="out")              the paper's recipe (recipe.py) is the default
    saes = train_many(stream, [TrainConfig(d_sae=2048), TrainConfig(d_sae=8192)], folder="out")     one pass over the activations
    tc   = train(streams, TrainConfig(d_sae=16_384), predict="blocks.6.hook_mlp_out")     a transcoder, from a stream of both its places
    clt  = train_cross_layer(streams, TrainConfig(d_sae=4096, architecture="batchtopk", k=16))    from a stream of both places of all blocks

With a folder, a run that was killed or interrupted is started again by the same call, and ends with the same bits as an unbroken one. The
folder then holds the SAE as `SAE.save` writes it (several: in 0, 1, …), metrics.jsonl and, until the end, checkpoint.safetensors.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.files import clear_partials, locked, made_folder
from workbench.model.gemm import product_sentence
from workbench.sae.config import CFG_FILE
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.formats.files import CIRCUIT_TRACER_FILE
from workbench.sae.sae import SAE
from workbench.sae.training.budget import Budget, budget, product_rate
from workbench.sae.training.checkpoint import CHECKPOINT_FILE, Checkpoint, check_same_run
from workbench.sae.training.copies import copies_note
from workbench.sae.training.learner import Learner, Metrics, finish, new_sae
from workbench.sae.training.monitor import Monitor
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.source import (
    CrossLayerSource,
    Source,
    Stream,
    Streams,
    TrainingError,
    cross_layer_source,
    describe,
    source_of,
    sources_of,
)
from workbench.sae.transcoder import Transcoder

OnMetrics = Callable[[Metrics], None] | None


@runtime_checkable
class KeptState(Protocol):
    """What the loop asks of a checkpoint (Checkpoint, ShardedCheckpoint)."""

    every: int

    def save(self, learners: Sequence[Learner], n_done: int) -> None:
        """All learners after n_done steps, whole or not at all."""
        ...


@overload
def train(
    stream: Stream | Streams,
    cfg: TrainConfig,
    progress: bool = True,
    *,
    predict: None = None,
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: OnMetrics = None,
) -> SAE: ...
@overload
def train(
    stream: Stream | Streams,
    cfg: TrainConfig,
    progress: bool = True,
    *,
    predict: str,
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: OnMetrics = None,
) -> Transcoder: ...
def train(
    stream: Stream | Streams,
    cfg: TrainConfig,
    progress: bool = True,
    *,
    predict: str | None = None,
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: OnMetrics = None,
) -> SAE | Transcoder:
    """A frozen SAE, with `predict` a Transcoder, on raw activations: scales and decoder norms folded in. `sae.cfg.metadata` holds the
    config and, over the last tenth of training, loss, fvu and l0; the share of dead features; and how many of those active in the last
    batch are copies of others (copies.py).

    predict           the hook point that a transcoder writes; the stream is an ActivationStreams of it and of the one that is read
    folder            where checkpoints, metrics and the SAE go; the same call resumes, or returns the SAE if it is done
    checkpoint_every  steps
    on_metrics        called every ten steps with a dict of numbers: `lambda m: wandb.log(m, step=m["step"])`

    Raises TrainingError, a ValueError, if the stream lacks a hook point or ends early, if activations are not finite, if the folder is of
    another run. After Ctrl-C it writes a checkpoint, then raises KeyboardInterrupt.
    """
    source = source_of(stream, cfg, predict)
    with recording(), _claimed(folder):
        return _train_many(stream, [cfg], [source], progress, folder, checkpoint_every, on_metrics)[0]


@overload
def train_many(
    stream: Stream | Streams,
    configs: Sequence[TrainConfig],
    progress: bool = True,
    *,
    predict: None = None,
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: OnMetrics = None,
) -> list[SAE]: ...
@overload
def train_many(
    stream: Stream | Streams,
    configs: Sequence[TrainConfig],
    progress: bool = True,
    *,
    predict: Sequence[str],
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: OnMetrics = None,
) -> list[Transcoder]: ...
def train_many(
    stream: Stream | Streams,
    configs: Sequence[TrainConfig],
    progress: bool = True,
    *,
    predict: Sequence[str] | None = None,
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: OnMetrics = None,
) -> list[SAE] | list[Transcoder]:
    """An SAE for each config from one pass over the activations: several widths, learning rates, lengths, hook points (cfg.hook_name).
    With `predict`, a hook point for each config, transcoders."""
    sources = sources_of(stream, configs, predict)
    with recording(), _claimed(folder):
        return _train_many(stream, configs, sources, progress, folder, checkpoint_every, on_metrics)


def train_cross_layer(  # noqa: PLR0913 a notebook's call
    stream: Streams,
    cfg: TrainConfig,
    progress: bool = True,
    *,
    hook_in: str = "mlp.hook_in",
    hook_out: str = "hook_mlp_out",
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: OnMetrics = None,
) -> CrossLayerTranscoder:
    """A frozen CrossLayerTranscoder of all blocks, from a stream of both places of each: hook_in is read, hook_out predicted, named inside
    of a block. cfg.d_sae counts one layer's features, k and the metadata's l0 the active ones of a token and layer; fvu is over all layers.

    For models of the atlas's size: dense steps in one process. Otherwise as `train`; the folder is circuit-tracer's.
    """
    sources = [cross_layer_source(stream, cfg, hook_in, hook_out)]
    with recording(), _claimed(folder):
        return _train_many(stream, [cfg], sources, progress, folder, checkpoint_every, on_metrics)[0]


def _claimed(folder: str | Path | None) -> AbstractContextManager:
    """No other process trains into the same folder meanwhile."""
    return locked(made_folder(folder)) if folder else nullcontext()


def _train_many(
    stream: Stream | Streams,
    configs: Sequence[TrainConfig],
    sources: Sequence[Source | CrossLayerSource],
    progress: bool,
    folder: str | Path | None,
    checkpoint_every: int,
    on_metrics: OnMetrics,
) -> list[Any]:
    run = [describe(source, cfg) for source, cfg in zip(sources, configs, strict=True)]
    home = Path(folder) if folder else None
    homes = ([home] if len(configs) == 1 else [home / str(n) for n in range(len(configs))]) if home else []
    if saes := finished(homes, run):
        if home:
            clear(home)
        return saes
    checkpoint = Checkpoint(home, run, stream, checkpoint_every) if home else None
    n_done = checkpoint.seek() if checkpoint else 0
    first, batches = first_of(stream)
    learners = [Learner(source, cfg, new_sae(source, cfg, first.device)) for source, cfg in zip(sources, configs, strict=True)]
    check_memory(learners, first, progress)
    if progress and (note := getattr(stream, "note", "")):
        tqdm.write(note, file=sys.stderr)
    if checkpoint and n_done:
        checkpoint.restore(learners)
    n_steps = max(cfg.n_steps for cfg in configs)
    with interruptible(is_on=checkpoint is not None) as interrupted, Monitor(learners, home, progress, on_metrics) as monitor:
        learn(learners, islice(batches, n_steps - n_done), monitor, checkpoint, interrupted)
    check_is_done(learners, checkpoint)
    saes = [finish(learner, learner.sae) for learner in learners]
    for note in filter(None, (copies_note(sae.cfg.metadata) for sae in saes) if progress else ()):
        tqdm.write(note, file=sys.stderr)
    if checkpoint:
        for sae, place in zip(saes, homes, strict=True):
            sae.save(place)
        checkpoint.remove()
    return saes


def clear(home: Path) -> None:
    """Takes away what a run that is done has left where it was killed at its very end."""
    (home / CHECKPOINT_FILE).unlink(missing_ok=True)
    clear_partials(home)


@contextmanager
def recording() -> Iterator[None]:
    """Inside, gradients are recorded and new tensors are float32, whatever the caller's cell has switched off or set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def learn(
    learners: Sequence[Learner], batches: Iterable[Any], monitor: Monitor, checkpoint: KeptState | None, interrupted: Callable[[], bool]
) -> None:
    """The loop: every batch to every learner that is not done with its steps."""
    for batch in batches:
        for learner in learners:
            if not learner.is_done:
                learner.step(*learner.source.of(batch))
        monitor.after_step()
        n_done = max(learner.n_done for learner in learners)
        is_stopped = interrupted()
        if checkpoint and (is_stopped or n_done % checkpoint.every == 0) and n_done < max(learner.cfg.n_steps for learner in learners):
            checkpoint.save(learners, n_done)
        if is_stopped:
            raise KeyboardInterrupt(f"stopped after step {n_done:,}; the same call goes on from there")


def check_is_done(learners: Sequence[Learner], checkpoint: KeptState | None) -> None:
    """Raises TrainingError where the stream had too few batches, once what was learned is safe."""
    n_done, n_steps = max(learner.n_done for learner in learners), max(learner.cfg.n_steps for learner in learners)
    if n_done < n_steps:
        if checkpoint:
            checkpoint.save(learners, n_done)
        n_tokens = max(learner.n_tokens for learner in learners)
        raise TrainingError(
            f"the stream ended after {n_done:,} of {n_steps:,} steps: these need {n_tokens * n_steps // max(1, n_done):,} tokens, "
            f"it has {n_tokens:,}; give it more text or train for fewer steps"
        )


def first_of(stream: Iterable[Any]) -> tuple[Tensor, Iterator[Any]]:
    """The first batch, of any hook point, which says batch size and device; and all batches, the first among them."""
    batches = iter(stream)
    if (first := next(batches, None)) is None:
        raise TrainingError("the stream has no batch left; give it more text")
    x = first if isinstance(first, Tensor) else next(iter(first.values()))
    if len(x) < 2:
        raise TrainingError("the stream deals batches of one token, of which no variance is known; expected batch=2 or more")
    return first if isinstance(first, Tensor) else next(iter(first.values())), chain([first], batches)


def finished(homes: Sequence[Path], run: Sequence[dict[str, Any]]) -> list[Any]:
    """What a run that is done has made; nothing where it is not. Raises TrainingError where it was another run."""
    there = [(saved, home, here) for home, here in zip(homes, run, strict=False) if (saved := _saved(home, here)) is not None]
    for saved, home, here in there:
        check_same_run(home, [saved.cfg.metadata.get("training", {})], [here])
    return [saved for saved, *_ in there] if len(there) == len(homes) else []


def _saved(home: Path, run: dict[str, Any]) -> Any:
    """What this run has left, known by the file that is written last; None where that is not there."""
    if "n_layers" in run:
        return CrossLayerTranscoder.load(home) if (home / CIRCUIT_TRACER_FILE).exists() else None
    kind = Transcoder if "predict" in run else SAE
    return kind.load(home) if (home / CFG_FILE).exists() else None


def check_memory(learners: Sequence[Learner], x: Tensor, progress: bool) -> None:
    """Print what training will take; raises OutOfMemory where the memory is not there."""
    costs = [_cost(it, len(x)) for it in learners]
    whole = sum(costs[1:], costs[0])
    whole.need.check(x.device, insist=None)
    if progress:
        sae = learners[0].sae
        minutes = whole.seconds(product_rate(x.shape[-1], sae.cfg.d_sae, len(x), x.device)) / 60
        dense = f"{minutes:.1f} min if every step is dense, beside harvesting"
        tqdm.write(f"Training will take {whole}: {dense}; {product_sentence(x.device.type)}", file=sys.stderr)


def _cost(learner: Learner, n_rows: int) -> Budget:
    n, source = learner.source.n_layers, learner.source
    d_out = source.d_out if n == 1 else (source.d_out or 0) * (n + 1) / 2  # a cross-layer feature writes into so many on average
    return budget(source.d_in, n * learner.sae.cfg.d_sae, learner.cfg.n_steps, n_rows, d_out=None if d_out is None else round(d_out))


@contextmanager
def interruptible(is_on: bool) -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C (or SIGTERM) only makes the given function true; a second one acts at once."""
    event = threading.Event()
    if not is_on or threading.current_thread() is not threading.main_thread():
        yield event.is_set
        return

    def note(*_: Any) -> None:
        event.set()
        os.write(2, b"\nfinishing the step, then a checkpoint; once more to stop at once\n")
        give_back()

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield event.is_set
    finally:
        give_back()
