"""workbench train, evaluate, convert, scaling, plan: sparse autoencoders, trained here or elsewhere; how good, how large the next one."""

import json
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from workbench.atlas.text import Text
    from workbench.bench import Workbench
    from workbench.sae.training.train import Stream, TrainConfig

N_ATLAS_TEXTS = 20_000
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 24 * 3600}


def train(
    out: Annotated[Path, typer.Argument(help="The folder to write. The same command goes on where a run in it was stopped.")],
    d_sae: Annotated[int, typer.Option(min=1, help="How many features.")],
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    texts: Annotated[str | None, typer.Option(help="A file or folder of text, or hub:NAME; the atlas has its own.")] = None,
    hook_name: Annotated[
        str | None, typer.Option(help="Where the SAE reads, such as blocks.6.hook_resid_pre; the atlas has its own.")
    ] = None,
    n_steps: Annotated[int, typer.Option(min=1, help="Batches to learn from.")] = 6000,
    batch: Annotated[int, typer.Option(min=1, help="Tokens in a batch.")] = 2048,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    l1: Annotated[float, typer.Option(help="λ: the price of activations; for jumprelu of an active feature.")] = 5.0,
    architecture: Annotated[str, typer.Option(help="standard (ReLU + L1), topk, batchtopk or jumprelu.")] = "standard",
    k: Annotated[int | None, typer.Option(help="topk, batchtopk: active features per token.")] = None,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 for the products of dense steps.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of the first weights.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps from one checkpoint to the next.")] = 1000,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Train an SAE by the paper's recipe and write it to a folder. Under torchrun its features are dealt out among the processes."""
    from workbench.sae.sae import SAE
    from workbench.sae.training.train import TrainConfig

    cfg = TrainConfig(d_sae, n_steps, lr, l1, seed=seed, architecture=architecture, k=k, precision=precision)  # refuses nonsense at once
    try:
        train_by(lambda place: stream_opener(model, texts, hook_name, batch, place)(), cfg, out, checkpoint_every, device)
    except KeyboardInterrupt as stop:
        print(f"workbench: {stop}", file=sys.stderr)
        raise
    if int(os.environ.get("RANK", 0)):
        return
    sae = SAE.load(out)
    loss, l0, fvu, dead = (sae.cfg.metadata[name] for name in ("loss", "l0", "fvu", "dead"))
    print(f"{out}: {d_sae:,} features at {sae.cfg.hook_name}; loss {loss:.2f}, l0 {l0:.1f}, fvu {fvu:.3f}, dead {dead:.1%}")


def train_by(open_stream: "Callable[[str], Stream]", cfg: "TrainConfig", out: Path, checkpoint_every: int, device: str) -> None:
    """In this process; or, where torchrun started it, as one rank of several: rank 0 reads the stream, on its own device."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        from workbench.sae.training.train import train as train_here

        train_here(open_stream(device), cfg, folder=out, checkpoint_every=checkpoint_every)
        return
    from workbench.sae.training.sharded import join, leave, train_sharded

    rank, place = join()
    try:
        train_sharded(open_stream(str(place)) if rank == 0 else None, cfg, out, checkpoint_every=checkpoint_every)
    finally:
        leave()


def evaluate(
    sae: Annotated[str | None, typer.Argument(help="The SAE: a folder, a hub id; one of the atlas's. [default: the atlas's own]")] = None,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    texts: Annotated[str | None, typer.Option(help="A file or folder of text, or hub:NAME; the atlas has its own.")] = None,
    n_texts: Annotated[int | None, typer.Option(min=1, help="Read so many texts. [default: all; of the atlas's 20,000]")] = None,
    other: Annotated[str | None, typer.Option(help="Another SAE: how many features does it have too?")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """How good an SAE is: l0, variance explained, loss recovered, dead features; on the atlas also what its features mean."""
    if model != "atlas" and not (sae and texts):
        raise ValueError(f"--model {model} needs an SAE and --texts (only the atlas brings its own)")
    from workbench.activations.texts import read_texts
    from workbench.benches import load
    from workbench.sae.evaluate import decoder_cosine
    from workbench.sae.evaluate import evaluate as measure
    from workbench.sae.sae import SAE

    source = read_texts(texts) if texts else None  # before the model: cheaper, and as often what is wrong
    bench = load(model, sae, device=device)
    cosine = None
    if other:
        cosine = decoder_cosine(bench.sae, load("atlas", other, device=device).sae if model == "atlas" else SAE.load(other, device))[
            "cosine"
        ]
    if source is None:
        source, truth = atlas_truth(bench, n_texts or N_ATLAS_TEXTS)
    else:
        source, truth = islice(source, n_texts), None
    evaluation = measure(bench.model, bench.sae, source)
    evaluation = evaluation if truth is None else replace(evaluation, truth=truth)
    if as_json:
        found = evaluation.measures() | ({} if cosine is None else {"median_cosine": float(cosine.median())})
        found = {name: None if math.isnan(value) else value for name, value in found.items()}
        print(json.dumps(found | {"truth": evaluation.truth.to_dict("records")}, indent=1, allow_nan=False))
        return
    print(evaluation)
    if cosine is not None:
        print(f"  nearest feature in {other}: median cosine {cosine.median():.2f}, over 0.9 for {(cosine > 0.9).mean():.1%}")


def atlas_truth(bench: "Workbench", n_texts: int) -> "tuple[list[Text], pd.DataFrame]":
    """(texts, for each kind of concept: n_concepts, the mean over them of the best F1 of any feature, the share with one that counts)"""
    from workbench import atlas
    from workbench.atlas.truth import FOUND, AnswerKey

    texts = atlas.texts(seed=1, n=n_texts)
    scores = AnswerKey.read(bench.model, bench.sae, texts).best_features().groupby("kind")["f1"]
    found = scores.agg(n_concepts="size", f1="mean", found=lambda f1: (f1 >= FOUND).mean())
    return texts, found.reset_index()


def convert(
    source: Annotated[str, typer.Argument(help="A folder, a file or a hub id, owner/repo:subfolder, in any library's format.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    hook_name: Annotated[str | None, typer.Option(help="Where the SAE reads, if its files do not say: blocks.6.hook_resid_post.")] = None,
    model_name: Annotated[str | None, typer.Option(help="The model it was trained on, if its files do not say.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="The factor that training multiplied activations by, if its files do not say.")
    ] = None,
    centers_input: Annotated[bool | None, typer.Option(help="It was trained on a model whose weights were centered.")] = None,
) -> None:
    """Write an SAE of any library as SAELens' folder, reading raw activations and giving raw ones."""
    from workbench.sae.config import CFG_FILE
    from workbench.sae.sae import SAE

    if (out / CFG_FILE).exists():
        raise ValueError(f"{out} already holds an SAE: name another folder")
    sae = SAE.load(source, hook_name=hook_name, model_name=model_name, scale=scale, centers_input=centers_input)
    sae.save(out)
    cfg = sae.cfg
    print(
        f"{out}: {cfg.d_sae:,} features of width {cfg.d_in:,}, {cfg.architecture}, at {cfg.hook_name} of {cfg.model_name or 'some model'}"
    )


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
    counts = {"--n-features": n_features, "--feature-steps": feature_steps, "--n-steps": n_steps}
    widths, products, steps = ([int(n) for n in numbers(text, name)] for name, text in counts.items())
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
    flops = float(found[1]) * SECONDS[found[2]] * find_device(names[0]).rate if found else numbers(budget, "--budget")[0]
    print(plan_for(d_in, flops, batch=batch, laws=ScalingLaws.read(runs) if runs else None, devices=names))


def numbers(text: str, option: str) -> list[float]:
    """1,2,3 → [1, 2, 3]. Raises ValueError, naming the option."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text!r}: expected numbers with commas between them, such as 64,128 or 1e-3") from None


def stream_opener(model: str, texts: str | None, hook_name: str | None, batch: int, device: str) -> "Callable[[], Stream]":
    """A function that opens the activations from their beginning, as often as it is called. The atlas brings texts and hook point."""
    if model != "atlas" and not (texts and hook_name):
        raise ValueError(f"--model {model} needs --texts and --hook-name (only the atlas brings its own)")
    from workbench import atlas
    from workbench.activations.stream import ActivationStream
    from workbench.activations.texts import read_texts
    from workbench.atlas.build import HOOK_NAME, SAE_SEED
    from workbench.atlas.corpus import stream
    from workbench.model.hooks import check_hook_name
    from workbench.model.model import load_model

    bridge = load_model(atlas.WEIGHTS / "model" if model == "atlas" else model, device=device)
    place = hook_name or HOOK_NAME
    check_hook_name(bridge, place)

    def opened() -> ActivationStream:
        activations = ActivationStream(bridge, read_texts(texts) if texts else stream(SAE_SEED), place, batch=batch)
        activations.model_name = model  # as it was called here; the bridge knows the atlas by its folder
        return activations

    return opened
