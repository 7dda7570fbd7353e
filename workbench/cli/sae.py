"""workbench evaluate, convert: SAEs and transcoders as files, trained here or elsewhere; how good they are."""

import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import Insist, StartToken, start_of

if TYPE_CHECKING:
    import pandas as pd

    from workbench.atlas.text import Text
    from workbench.bench import Workbench

N_ATLAS_TEXTS = 20_000


def evaluate(
    sae: Annotated[
        str | None,
        typer.Argument(
            help="The SAE or transcoder: a folder, a hub id; one of the atlas's SAEs; transcoders of all layers. [default: the atlas's own]"
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    texts: Annotated[str | None, typer.Option(help="A file or folder of text, or hub:NAME; the atlas has its own.")] = None,
    n_texts: Annotated[int | None, typer.Option(min=1, help="Read so many texts. [default: all; of the atlas's 20,000]")] = None,
    other: Annotated[str | None, typer.Option(help="Another SAE: how many features does it have too?")] = None,
    start_token: StartToken = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    insist: Insist = False,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """How good an SAE or a transcoder is: l0, variance explained (of a transcoder's output), loss recovered, dead features; on the atlas
    also what its features mean."""
    if model != "atlas" and not (sae and texts):
        raise ValueError(f"--model {model} needs an SAE and --texts (only the atlas brings its own)")
    from workbench.activations.texts import read_texts
    from workbench.benches import load
    from workbench.sae.evaluate import decoder_cosine
    from workbench.sae.evaluate import evaluate as measure
    from workbench.sae.formats.transcoders import is_cross_layer
    from workbench.sae.stack import is_set
    from workbench.sae.transcoder import load_dictionary

    source = read_texts(texts) if texts else None  # before the model: cheaper, and as often what is wrong
    if sae and Path(sae).is_dir() and (is_set(sae) or is_cross_layer(sae)):
        if other:
            raise ValueError(f"{sae} holds transcoders of all layers: --other compares one with one")
        _evaluate_layers(load(model, transcoders=sae, device=device, start_token=start_of(start_token)), source, n_texts, as_json, insist)
        return
    bench, truth, cosine = load(model, sae, device=device, start_token=start_of(start_token)), None, None
    if other:
        theirs = load("atlas", other, device=device).sae if model == "atlas" else load_dictionary(other, device)
        cosine = decoder_cosine(bench.sae, theirs)["cosine"]
    if source is None:
        source, truth = atlas_truth(bench, n_texts or N_ATLAS_TEXTS)
    evaluation = measure(bench.model, bench.sae, islice(source, n_texts), insist=insist)
    evaluation = evaluation if truth is None else replace(evaluation, truth=truth)
    if as_json:
        measures = evaluation.measures() | ({} if cosine is None else {"median_cosine": float(cosine.median())})
        measures = {name: None if math.isnan(value) else value for name, value in measures.items()}
        print(json.dumps(measures | {"truth": evaluation.truth.to_dict("records")}, indent=1, allow_nan=False))
        return
    print(evaluation)
    if cosine is not None:
        print(f"  nearest feature in {other}: median cosine {cosine.median():.2f}, over 0.9 for {(cosine > 0.9).mean():.1%}")


def _evaluate_layers(bench: "Workbench", texts: Any, n_texts: int | None, as_json: bool, insist: bool) -> None:
    from workbench import atlas
    from workbench.sae.evaluate_layers import evaluate_layers

    some = islice(texts, n_texts) if texts is not None else atlas.texts(seed=1, n=n_texts or N_ATLAS_TEXTS)
    table = evaluate_layers(bench.model, bench.transcoders, some, insist=insist)
    if as_json:
        print(table.to_json(orient="records", indent=1))
        return
    print(table.drop(columns="n_tokens").to_string(index=False, float_format="{:.3f}".format))
    print(f"over {table['n_tokens'].iloc[0]:,} tokens; all: every MLP replaced at once, l0 summed")


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
    hook_name: Annotated[str | None, typer.Option(help="Where an SAE reads, if its files do not say: blocks.6.hook_resid_post.")] = None,
    hook_name_in: Annotated[str | None, typer.Option(help="Where a transcoder reads, if its files do not say.")] = None,
    hook_name_out: Annotated[str | None, typer.Option(help="Where a transcoder writes, if its files do not say.")] = None,
    model_name: Annotated[str | None, typer.Option(help="The model it was trained on, if its files do not say.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="The factor that training multiplied activations by, if its files do not say.")
    ] = None,
    centers_input: Annotated[bool | None, typer.Option(help="It was trained on a model whose weights were centered.")] = None,
    to: Annotated[str | None, typer.Option(help="saelens, sparsify or circuit-tracer (transcoders of every layer).")] = None,
) -> None:
    """Write an SAE or transcoders of any library as SAELens' folder, transcoders also as sparsify's or circuit-tracer's."""
    from workbench.sae.convert import convert as write

    places = dict(hook_name=hook_name, hook_name_in=hook_name_in, hook_name_out=hook_name_out)
    written = write(source, out, to, **places, model_name=model_name, scale=scale, centers_input=centers_input)
    found = written.values() if isinstance(written, dict) else [written]
    for dictionary in found:
        print(f"{out}: {dictionary.extra_repr()} of {dictionary.cfg.model_name or 'some model'}")
