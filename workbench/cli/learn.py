"""workbench train, scaling, plan: SAEs and transcoders are trained; how large the next one."""

import os
import re
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from workbench.cli.options import StartToken, start_of

if TYPE_CHECKING:
    from workbench.sae.training.train import TrainConfig

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 24 * 3600}


def train(
    out: Annotated[Path, typer.Argument(help="The folder to write. The same command goes on where a run in it was stopped.")],
    d_sae: Annotated[int, typer.Option(min=1, help="How many features.")],
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    texts: Annotated[str | None, typer.Option(help="A file or folder of text, or hub:NAME; the atlas has its own.")] = None,
    hook_name: Annotated[
        str | None, typer.Option(help="Where the SAE reads, such as blocks.6.hook_resid_pre; the atlas has its own.")
    ] = None,
    predict: Annotated[
        str | None, typer.Option(help="Train a transcoder that writes here, such as blocks.6.hook_mlp_out; it reads --hook-name.")
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", help="A transcoder's: its output includes x @ W_skip.")] = False,
    cross_layer: Annotated[
        bool,
        typer.Option(
            "--cross-layer",
            help="One transcoder across all blocks; hook points are named inside of a block. [default: mlp.hook_in → hook_mlp_out]",
        ),
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Read the texts so many times, where they are fewer than the run needs.")] = 1,
    start_token: StartToken = None,
    n_steps: Annotated[int, typer.Option(min=1, help="Batches to learn from.")] = 6000,
    batch: Annotated[int, typer.Option(min=1, help="Tokens in a batch.")] = 2048,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    l1: Annotated[float, typer.Option(help="λ: the price of activations; for jumprelu of an active feature.")] = 5.0,
    architecture: Annotated[str, typer.Option(help="standard (ReLU + L1), topk, batchtopk or jumprelu.")] = "standard",
    k: Annotated[int | None, typer.Option(help="topk, batchtopk: active features per token.")] = None,
    widths: Annotated[str, typer.Option(help="batchtopk: the first so many features do by themselves too, such as 512,2048.")] = "",
    merge_copies: Annotated[
        bool, typer.Option("--merge-copies", help="standard: features that are copies of others become one; what is freed starts anew.")
    ] = False,
    precision: Annotated[str, typer.Option(help="float32; bfloat16: dense steps, where the device is faster at it.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of the first weights.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps from one checkpoint to the next.")] = 1000,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Train an SAE, with --predict a transcoder, by the paper's recipe and write it to a folder. Under torchrun its features are dealt
    out among the processes."""
    from workbench.sae.cross_layer import CrossLayerTranscoder
    from workbench.sae.sae import SAE
    from workbench.sae.training.train import TrainConfig, TrainingError
    from workbench.sae.transcoder import Transcoder

    if cross_layer:
        hook_name, predict = hook_name or "mlp.hook_in", predict or "hook_mlp_out"
        if any(name.startswith("blocks.") for name in (hook_name, predict)):
            raise ValueError(f"--cross-layer reads every block: name places inside of one, mlp.hook_in, not {hook_name} → {predict}")
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise ValueError("a cross-layer transcoder is trained in one process: leave torchrun out")
    if skip and not predict:
        raise ValueError("--skip is a transcoder's: say what it predicts, --predict blocks.6.hook_mlp_out")
    reads = hook_name or (mlp_input(predict) if predict else None)
    nested = tuple(counts(widths, "--widths")) if widths else ()
    how: Any = dict(architecture=architecture, k=k, precision=precision, hook_name=reads or "", has_skip=skip, widths=nested)
    cfg = TrainConfig(d_sae, n_steps, lr, l1, seed=seed, merge_copies=merge_copies, **how)  # refuses nonsense at once
    try:
        reading = Reading(epochs, start_of(start_token), cross_layer)
        train_by(
            lambda place: stream_opener(model, texts, reads, batch, place, reading, predict)(),
            cfg,
            out,
            checkpoint_every,
            device,
            predict,
            is_across=cross_layer,
        )
    except TrainingError as error:
        more = f"; --epochs {epochs + 1} into a new folder reads them again" if texts and "the stream ended" in str(error) else ""
        raise ValueError(f"{error}{more}") from None
    except KeyboardInterrupt as stop:
        print(f"workbench: {stop}", file=sys.stderr)
        raise
    if int(os.environ.get("RANK", 0)):
        return
    cfg = (CrossLayerTranscoder if cross_layer else Transcoder if predict else SAE).load(out).cfg
    loss, l0, fvu, dead = (cfg.metadata[name] for name in ("loss", "l0", "fvu", "dead"))
    place = f"{reads} → {predict}" if predict else cfg.metadata["training"]["hook_name"]
    place += f" of each of {cfg.n_layers} blocks" if cross_layer else ""
    same = f", {n:,} copies" if (n := cfg.metadata.get("copies")) else ""
    print(f"{out}: {d_sae:,} features at {place}; loss {loss:.2f}, l0 {l0:.1f}, fvu {fvu:.3f}, dead {dead:.1%}{same}")


def mlp_input(predict: str) -> str:
    """What the MLP reads whose output this is: a transcoder's place unless another is said."""
    block = re.fullmatch(r"(blocks\.\d+)\.(hook_mlp_out|mlp\.hook_out)", predict)
    if not block:
        raise ValueError(f"--predict {predict} is not the output of an MLP: say what is read, --hook-name blocks.6.mlp.hook_in")
    return f"{block[1]}.mlp.hook_in"


def train_by(
    open_stream: Callable[[str], Any],
    cfg: "TrainConfig",
    out: Path,
    checkpoint_every: int,
    device: str,
    predict: str | None = None,
    *,
    is_across: bool = False,
) -> None:
    """In this process; or, where torchrun started it, as one rank of several: rank 0 reads the stream, on its own device."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        from workbench.sae.training.train import train as train_here
        from workbench.sae.training.train import train_cross_layer

        if is_across:
            places: Any = dict(hook_in=cfg.hook_name, hook_out=predict)
            train_cross_layer(open_stream(device), cfg, **places, folder=out, checkpoint_every=checkpoint_every)
            return
        train_here(open_stream(device), cfg, predict=predict, folder=out, checkpoint_every=checkpoint_every)
        return
    from workbench.sae.training.sharded import join, leave, train_sharded

    rank, place = join()
    try:
        train_sharded(open_stream(str(place)) if rank == 0 else None, cfg, out, predict=predict, checkpoint_every=checkpoint_every)
    finally:
        leave()


def scaling(
    runs: Annotated[Path, typer.Argument(help="The sweep's file, JSON lines: read, and written where runs are missing.")],
    n_features: Annotated[str, typer.Option(help="Widths to train, such as 64,128,256. Without them the file is only read.")] = "",
    feature_steps: Annotated[str, typer.Option(help="Products n_features · n_steps, lines of equal compute: 65536,131072.")] = "",
    lrs: Annotated[str, typer.Option(help="Learning rates: 5e-4,1e-3,2e-3.")] = "",
    n_steps: Annotated[str, typer.Option(help="The fewest and the most steps of a run.")] = "50,50000",
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    texts: Annotated[str | None, typer.Option(help="Files to read text from; the atlas has its own.")] = None,
    hook_name: Annotated[str | None, typer.Option(help="Where the SAEs read; the atlas has its own.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Tokens in a batch.")] = 2048,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Sweep width, steps and learning rate on the same activations, and fit the power laws. The same command goes on after a stop."""
    from workbench.sae.scaling.sweep import Grid, ScalingLaws, sweep

    if not n_features:
        print(ScalingLaws.read(runs))
        return
    lists = {"--n-features": n_features, "--feature-steps": feature_steps, "--n-steps": n_steps}
    widths, products, steps = (counts(text, name) for name, text in lists.items())
    grid = Grid(widths, products, numbers(lrs, "--lrs"), n_steps=(min(steps), max(steps)))
    grid.configs()  # raises before anything is loaded
    print(sweep(stream_opener(model, texts, hook_name, batch, device), grid, runs))


def plan(
    d_in: Annotated[int, typer.Option(min=1, help="Width of the activations: d_model for the residual stream.")],
    budget: Annotated[str, typer.Option(help="FLOPs, 1e18; or time on the one --device named: 30min, 12h, 3d.")],
    batch: Annotated[int, typer.Option(min=1, help="Tokens in a batch.")] = 4096,
    runs: Annotated[Path | None, typer.Option(help="A sweep's file (workbench scaling); without it the atlas's.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu, h100, …; several times for several. [default: all known]")] = None,
) -> None:
    """Which width, steps and learning rate a budget affords, the loss to expect, memory and time."""
    from workbench.sae.scaling.plan import GPUS, find_device
    from workbench.sae.scaling.plan import plan as plan_for
    from workbench.sae.scaling.sweep import ScalingLaws

    names = device or ["cpu", *GPUS]
    found = re.fullmatch(r"([\d.]+)\s*(s|min|h|d)", budget)
    if found and len(names) != 1:
        raise ValueError(f"--budget {budget} is a time: on which device? Name one --device")
    flops = numbers(found[1], "--budget")[0] * SECONDS[found[2]] * find_device(names[0]).rate if found else numbers(budget, "--budget")[0]
    print(plan_for(d_in, flops, batch=batch, laws=ScalingLaws.read(runs) if runs else None, devices=names))


def numbers(text: str, option: str) -> list[float]:
    """1,2,3 → [1, 2, 3]. Raises ValueError, naming the option."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text!r}: expected numbers with commas between them, such as 64,128 or 1e-3") from None


def counts(text: str, option: str) -> list[int]:
    """The same of whole numbers above 0."""
    found = numbers(text, option)
    if not all(number.is_integer() and 0 < number < 2**53 for number in found):
        raise ValueError(f"{option} {text!r}: expected whole numbers above 0, such as 64,128")
    return [int(number) for number in found]


class Reading(NamedTuple):
    """How texts are read."""

    n_epochs: int = 1  # times
    start_token: str | None | EllipsisType = ...
    is_across: bool = False  # hook points are named inside of a block, and read in every one


ONCE = Reading()


def stream_opener(
    model: str, texts: str | None, hook_name: str | None, batch: int, device: str, reading: Reading = ONCE, predict: str | None = None
) -> "Callable[[], Any]":
    """A function that opens the activations from their beginning, as often as it is called; with predict, at both places. The atlas brings
    texts and hook point."""
    if reading.n_epochs > 1 and not texts:
        raise ValueError("the atlas writes texts without end: --epochs is for --texts")
    if model != "atlas" and not (texts and hook_name):
        raise ValueError(f"--model {model} needs --texts and --hook-name (only the atlas brings its own)")
    from workbench import atlas
    from workbench.activations.stream import ActivationStream, ActivationStreams
    from workbench.activations.texts import read_texts
    from workbench.atlas.build import HOOK_NAME, SAE_SEED
    from workbench.atlas.corpus import stream
    from workbench.model.hooks import check_hook_name
    from workbench.model.model import load_model

    bridge = load_model(atlas.WEIGHTS / "model" if model == "atlas" else model, device=device, start_token=reading.start_token)
    place = hook_name or HOOK_NAME
    places = [place, predict] if predict else [place]
    if reading.is_across:
        places = [f"blocks.{layer}.{end}" for layer in range(bridge.cfg.n_layers) for end in places]
    for name in places:
        check_hook_name(bridge, name)

    def opened() -> ActivationStream | ActivationStreams:
        source = chain.from_iterable(read_texts(texts) for _ in range(reading.n_epochs)) if texts else stream(SAE_SEED)
        activations = (
            ActivationStreams(bridge, source, places, batch=batch) if predict else ActivationStream(bridge, source, place, batch=batch)
        )
        activations.model_name = model  # as it was called here; the bridge knows the atlas by its folder
        return activations

    return opened
