"""Train SAEs: one loop, from a stream of activations to frozen SAEs, that goes on where it was stopped.

    sae  = train(stream, TrainConfig(d_sae=16_384), folder="out")              the paper's recipe (recipe.py) is the default
    saes = train_many(stream, [TrainConfig(d_sae=2048), TrainConfig(d_sae=8192)], folder="out")     one pass over the activations

With a folder, a run that was killed or interrupted is started again by the same call, and ends with the same bits as an unbroken one. The
folder then holds the SAE as `SAE.save` writes it (several: in 0, 1, …), metrics.jsonl and, until the end, checkpoint.safetensors.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from tqdm.auto import tqdm

from workbench.sae.config import CFG_FILE
from workbench.sae.sae import SAE
from workbench.sae.training.budget import budget, free_memory, product_rate
from workbench.sae.training.checkpoint import Checkpoint, check_same_run, describe
from workbench.sae.training.learner import Learner, Metrics, Source, TrainingError, finish, new_sae
from workbench.sae.training.monitor import Monitor
from workbench.sae.training.recipe import TrainConfig


@runtime_checkable
class Stream(Protocol):
    """What training reads: shuffled batches of raw activations, and where they come from (workbench.activations.stream.ActivationStream).

    To go on after a stop it also has position() → dict[str, int] and seek(position).
    """

    model_name: str
    hook_name: str
    d_in: int
    scale: float

    def __iter__(self) -> Iterator[Tensor]: ...


@runtime_checkable
class Streams(Protocol):
    """The same at several hook points at once: widths, scales and batches by hook name (workbench.activations.stream.ActivationStreams)."""

    model_name: str
    d_in: dict[str, int]
    scale: dict[str, float]

    def __iter__(self) -> Iterator[dict[str, Tensor]]: ...


@runtime_checkable
class KeptState(Protocol):
    """What the loop asks of a checkpoint (Checkpoint, ShardedCheckpoint)."""

    every: int

    def save(self, learners: Sequence[Learner], n_done: int) -> None: ...


def train(
    stream: Stream,
    cfg: TrainConfig,
    progress: bool = True,
    *,
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: Callable[[Metrics], None] | None = None,
) -> SAE:
    """A frozen SAE on raw activations: scale and decoder norms folded in. `sae.cfg.metadata` holds the config and, over the last tenth of
    training, loss, fvu and l0; and the share of dead features.

    folder            where checkpoints, metrics and the SAE go; the same call resumes, or returns the SAE if it is done
    checkpoint_every  steps
    on_metrics        called every ten steps with a dict of numbers: `lambda m: wandb.log(m, step=m["step"])`

    Raises TrainingError, a ValueError, if the stream ends early, if activations are not finite, if the folder is of another run. After
    Ctrl-C it writes a checkpoint, then raises KeyboardInterrupt.
    """
    return train_many(stream, [cfg], progress, folder=folder, checkpoint_every=checkpoint_every, on_metrics=on_metrics)[0]


def train_many(
    stream: Stream | Streams,
    configs: Sequence[TrainConfig],
    progress: bool = True,
    *,
    folder: str | Path | None = None,
    checkpoint_every: int = 1000,
    on_metrics: Callable[[Metrics], None] | None = None,
) -> list[SAE]:
    """An SAE for each config from one pass over the activations: several widths, learning rates, lengths, hook points (cfg.hook_name)."""
    sources = [source_of(stream, cfg) for cfg in configs]
    run = [describe(source, cfg) for source, cfg in zip(sources, configs, strict=True)]
    home = Path(folder) if folder else None
    homes = ([home] if len(configs) == 1 else [home / str(n) for n in range(len(configs))]) if home else []
    if saes := finished(homes, run):
        return saes
    checkpoint = Checkpoint(home, run, stream, checkpoint_every) if home else None
    n_done = checkpoint.seek() if checkpoint else 0
    first, batches = first_of(stream)
    learners = [Learner(source, cfg, new_sae(source, cfg, first.device)) for source, cfg in zip(sources, configs, strict=True)]
    check_memory(learners, first, progress)
    if checkpoint and n_done:
        checkpoint.restore(learners)
    n_steps = max(cfg.n_steps for cfg in configs)
    with interruptible(is_on=checkpoint is not None) as interrupted, Monitor(learners, home, progress, on_metrics) as monitor:
        learn(learners, islice(batches, n_steps - n_done), monitor, checkpoint, interrupted)
    check_is_done(learners, checkpoint)
    saes = [finish(learner, learner.sae) for learner in learners]
    if checkpoint:
        for sae, place in zip(saes, homes, strict=True):
            sae.save(place)
        checkpoint.remove()
    return saes


def learn(
    learners: Sequence[Learner], batches: Iterable[Any], monitor: Monitor, checkpoint: KeptState | None, interrupted: Callable[[], bool]
) -> None:
    """The loop: every batch to every learner that is not done with its steps."""
    for batch in batches:
        for learner in learners:
            if not learner.is_done:
                learner.step(batch if isinstance(batch, Tensor) else batch[learner.source.hook_name])
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


def source_of(stream: Stream | Streams, cfg: TrainConfig) -> Source:
    """What `cfg` is trained on. Raises TrainingError where its hook point is not the stream's."""
    if isinstance(stream, Stream):
        if cfg.hook_name not in ("", stream.hook_name):
            raise TrainingError(f"the config is for {cfg.hook_name}, the stream reads {stream.hook_name}")
        return Source(stream.hook_name, stream.model_name, stream.d_in, stream.scale)
    if not isinstance(stream, Streams):
        raise TrainingError(f"{stream!r} is no stream of activations: expected ActivationStream(model, texts, hook_name)")
    if cfg.hook_name not in stream.d_in:
        raise TrainingError(f"TrainConfig.hook_name is {cfg.hook_name!r}; the stream reads {', '.join(stream.d_in)}")
    return Source(cfg.hook_name, stream.model_name, stream.d_in[cfg.hook_name], stream.scale[cfg.hook_name])


def first_of(stream: Iterable[Any]) -> tuple[Tensor, Iterator[Any]]:
    """The first batch, of any hook point, which says batch size and device; and all batches, the first among them."""
    batches = iter(stream)
    if (first := next(batches, None)) is None:
        raise TrainingError("the stream has no batch left; give it more text")
    return first if isinstance(first, Tensor) else next(iter(first.values())), chain([first], batches)


def finished(homes: Sequence[Path], run: Sequence[dict[str, Any]]) -> list[SAE]:
    """The SAEs of a run that is done; none where there are none. Raises TrainingError where they are of another run."""
    there = [SAE.load(home) for home in homes if (home / CFG_FILE).exists()]
    for sae, home, here in zip(there, homes, run, strict=False):
        check_same_run(home, [sae.cfg.metadata.get("training", {})], [here])
    return there if len(there) == len(homes) else []


def check_memory(learners: Sequence[Learner], x: Tensor, progress: bool) -> None:
    """Print what training will take; raises TrainingError where the memory is not there."""
    costs = [budget(learner.source.d_in, learner.sae.cfg.d_sae, learner.cfg.n_steps, len(x)) for learner in learners]
    whole, free = sum(costs[1:], costs[0]), free_memory(x.device)
    if free is not None and whole.kept > free:
        raise TrainingError(
            f"training needs {whole}, but {x.device} has {free / 1e9:.1f} GB left; fewer features, or torchrun (sharded.py)"
        )
    if progress:
        sae = learners[0].sae
        minutes = whole.seconds(product_rate(x.shape[-1], sae.cfg.d_sae, len(x), x.device)) / 60
        tqdm.write(f"Training will take {whole}: {minutes:.1f} min if every step is dense, beside harvesting", file=sys.stderr)


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
