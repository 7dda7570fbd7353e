"""Rebuild the atlas from nothing: tokenizer and model, then its SAEs and what their features mean. From one seed, on a CPU or a GPU; a
stage that is done is not done again.

out/model      a Hugging Face folder
out/sae_1k     an SAELens folder a width; with labels.json: feature → its concept, by the answer key
out/index      what every feature of all widths is active on; of two widths how well features read and write what they are called
out/layers     the same at the other layers, one a hook point, all of one width: a computation can be followed through depth
out/transcoders   a transcoder of each layer's MLP, blocks.0 to blocks.5, in the same form
out/twins       differences of weights, a file for each tuned twin of the model
out/training_…    checkpoints, while it is built

Every folder and file of these comes by one rename, when it is done: what is there is as it will stay.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from workbench.activations.stream import ActivationStream, ActivationStreams
from workbench.atlas.corpus import stream, texts
from workbench.atlas.language_model import ModelRecipe, build_model, build_tokenizer
from workbench.atlas.layers import read_labels
from workbench.atlas.text import Text
from workbench.atlas.truth import FOUND, AnswerKey
from workbench.atlas.twins.key import KEYS
from workbench.atlas.twins.talks import TALKERS, build_talker
from workbench.atlas.twins.tuning import build_twin
from workbench.atlas.twins.twin import file_of
from workbench.bench import Workbench
from workbench.circuits.steering.scores import score_features
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.parts import Label
from workbench.features.survey.mapping import feature_map
from workbench.files import PARTIAL, locked, made_folder, whole_folder, write_tensors, write_text, write_whole
from workbench.model.model import load_model
from workbench.sae.config import WEIGHTS_FILE
from workbench.sae.sae import SAE
from workbench.sae.training.copies import merge_copies
from workbench.sae.training.train import TrainConfig, train, train_many
from workbench.sae.transcoder import load_dictionary

HOOK_NAME = "blocks.3.hook_resid_pre"
SAE_SEED = 500_000  # texts that SAEs are trained on; the language model's seeds lie below, fresh texts above
N_LABEL_TEXTS = 20_000
INDEX_SEED, N_INDEX_TEXTS = 2, 12_000  # 18 MB with all four widths, labels and map
SCORE_SEED, N_SCORE_TEXTS = 11, 6000  # apart from those that labels and index are made from
SCORED = ("2k", "4k")  # the widths that lessons look through; minutes each
SAES = {  # by name; a smaller λ than the paper's 5: at 5 a city's feature takes its state in, and the state is found no more (docs/log.md)
    "1k": TrainConfig(1024, n_steps=2500, l1=1.0),
    "2k": TrainConfig(2048, n_steps=2500, l1=1.0),
    "4k": TrainConfig(4096, n_steps=2500, l1=2.0),
    "16k": TrainConfig(16_384, n_steps=2500, l1=2.0),
}
LAYERS = [f"blocks.{k}.hook_resid_pre" for k in (0, 1, 2, 4, 5)] + ["blocks.5.hook_resid_post"]  # before block 3: the 2k above
LAYER_SAE = TrainConfig(2048, n_steps=1500, l1=1.0)
# Before block 0 an activation is a token at a position: twice as wide as there are tokens, so that players have features there. That block
# carries three quarters of an answer past the name (docs/log.md).
WIDER = {"blocks.0.hook_resid_pre": 8192}
LAYER_BUFFER = 2**17  # tokens of six hook points: 0.5 GB
MLP_READS, MLP_WRITES = "blocks.{}.mlp.hook_in", "blocks.{}.hook_mlp_out"
# As wide as fits: with it all of the atlas's files take just under 60 MB. 1,000 steps explain 95 % of every output (docs/log.md).
TRANSCODER = TrainConfig(384, n_steps=1000, l1=1.0)
TRANSCODER_BUFFER = 2**16  # tokens of twelve hook points: 0.5 GB
# Copies are merged in all but these, where fewer than 1 in 1,000 pairs of features are alike: lessons name their features and activations.
AS_TRAINED = ("1k", "2k", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre")
TOGETHER = 0.5  # of transcoders' copies: at 0.7 those of the last layers keep 3 in 1,000 pairs alike
MERGE_BATCHES = 16  # 32,768 tokens by which copies are known


def build(out: str | Path, device: str = "cpu") -> None:
    """Write the whole atlas to `out`."""
    out = made_folder(out)
    with locked(out):
        _build(out, device)


def _build(out: Path, device: str) -> None:
    model_folder, recipe = out / "model", ModelRecipe()
    if not model_folder.exists():
        with whole_folder(model_folder) as folder:
            build_model(folder, build_tokenizer(folder, recipe), recipe, device, checkpoints=made_folder(out / "training_model"))
            halve(folder / "model.safetensors")
    assert AutoTokenizer.from_pretrained(model_folder).vocab_size == recipe.d_vocab
    model = load_model(model_folder, device=device)
    model.cfg.model_name = "atlas"  # not the folder that it happens to be built in
    for name in SAES:
        folder = out / f"sae_{name}"
        if not folder.exists():
            sae = build_sae(model, name, out / f"training_{name}")
            save_halved(sae if name in AS_TRAINED else merged(model, {HOOK_NAME: sae})[HOOK_NAME], folder)
        write_labels(model, folder)
    if not all((out / "layers" / name).exists() for name in LAYERS):
        build_layers(model, out / "layers", out / "training_layers")
    for name in LAYERS:
        write_labels(model, out / "layers" / name)
    folders = [out / "transcoders" / f"blocks.{k}" for k in range(model.cfg.n_layers)]
    if not all(folder.exists() for folder in folders):
        build_transcoders(model, folders, out / "training_transcoders")
    for folder in folders:
        write_labels(model, folder)
    write_index(model, out)
    write_scores(model, out)
    for name in KEYS:
        if not (file := file_of(out, name)).exists():
            write_twin(out, name, file)
    for left in list(out.rglob(f"*{PARTIAL}")):  # of a process that was killed after a folder had got its name
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    for checkpoints in out.glob("training_*"):
        shutil.rmtree(checkpoints)  # the model's and each width's; of the others where a process was killed over it


def save_halved(dictionary: Any, folder: Path) -> None:
    """An SAE or a transcoder in its last form, in 16 bits, unless it is there."""
    if not folder.exists():
        with whole_folder(folder) as inside:
            dictionary.save(inside)
            halve(inside / WEIGHTS_FILE)


def write_index(model: Any, out: Path) -> None:
    """What is known of the features of all widths, their labels among it, and their map."""
    saes = {name: SAE.load(out / f"sae_{name}", model.cfg.device) for name in SAES}
    index = build_index(model, saes, texts(INDEX_SEED, N_INDEX_TEXTS), out / "index")
    for name in saes:
        index.with_sae(name).save_labels(known_labels(out / f"sae_{name}" / "labels.json"))
    feature_map(saes, index)


def write_scores(model: Any, out: Path) -> None:
    """How well labelled features of some widths read what they are called and how much they write it, unless the index keeps it."""
    for name in SCORED:
        index = FeatureIndex.open(out / "index", name)
        if not index.scores():
            bench = Workbench(model=model, sae=SAE.load(out / f"sae_{name}", model.cfg.device), index=index, labels=index.label_texts())
            found = score_features(bench, texts(SCORE_SEED, N_SCORE_TEXTS), Text.concepts_at)
            index.save_scores(found.scores, found.basis)


def build_sae(model: Any, name: str, checkpoints: Path) -> SAE:
    """One SAE on texts of its own; a killed training goes on from its last checkpoint."""
    activations = ActivationStream(model, stream(SAE_SEED), HOOK_NAME)
    activations.model_name = "atlas"  # not the folder that it happens to be built in
    return train(activations, SAES[name], folder=checkpoints)


def build_layers(model: Any, out: Path, checkpoints: Path) -> None:
    """The SAEs of the other layers, in one pass over the texts; a killed training goes on from its last checkpoint."""
    activations = ActivationStreams(model, stream(SAE_SEED), LAYERS, buffer=LAYER_BUFFER)
    activations.model_name = "atlas"
    saes = train_many(
        activations, [replace(LAYER_SAE, d_sae=WIDER.get(name, LAYER_SAE.d_sae), hook_name=name) for name in LAYERS], folder=checkpoints
    )
    found = dict(zip(LAYERS, saes, strict=True))
    found |= merged(model, {name: sae for name, sae in found.items() if name not in AS_TRAINED})
    for name, sae in found.items():
        save_halved(sae, out / name)
    shutil.rmtree(checkpoints)


def build_transcoders(model: Any, folders: Sequence[Path], checkpoints: Path) -> None:
    """A transcoder of each layer's MLP, in one pass over the texts; a killed training goes on from its last checkpoint."""
    reads, writes = ([name.format(k) for k in range(len(folders))] for name in (MLP_READS, MLP_WRITES))
    activations = ActivationStreams(model, stream(SAE_SEED), [*reads, *writes], buffer=TRANSCODER_BUFFER)
    activations.model_name = "atlas"
    configs = [replace(TRANSCODER, hook_name=name) for name in reads]
    found = merged(
        model, dict(zip(reads, train_many(activations, configs, predict=writes, folder=checkpoints), strict=True)), together=TOGETHER
    )
    for folder, name in zip(folders, reads, strict=True):
        save_halved(found[name], folder)
    shutil.rmtree(checkpoints)


def merged(model: Any, dictionaries: Mapping[str, Any], **how: float) -> dict[str, Any]:
    """The same by what they read, their copies merged."""
    places = {each.reads for each in dictionaries.values()} | {each.writes for each in dictionaries.values()}
    batches = list(islice(ActivationStreams(model, stream(SAE_SEED), sorted(places), buffer=TRANSCODER_BUFFER), MERGE_BATCHES))
    found = {}
    for name, each in dictionaries.items():
        x, y = (torch.cat([batch[place] for batch in batches]) for place in (each.reads, each.writes))
        found[name] = merge_copies(each, x, None if each.reads == each.writes else y, **how).sae
    return found


def write_twin(out: Path, name: str, file: Path) -> None:
    """What tuning adds to the model: minutes, so that a twin that was cut off begins anew."""
    differences = (build_talker if name in TALKERS else build_twin)(out / "model", name)
    made_folder(file.parent)
    write_whole(file, lambda partial: write_tensors(partial, differences, {"format": "pt"}))


def write_labels(model: Any, folder: Path) -> None:
    """labels.json beside an SAE or a transcoder, unless it is there."""
    if not (folder / "labels.json").exists():
        sae = load_dictionary(folder, model.cfg.device)
        named = label(AnswerKey.read(model, sae, texts(seed=1, n=N_LABEL_TEXTS)))
        write_text(folder / "labels.json", json.dumps(named, indent=0) + "\n")


def label(key: AnswerKey) -> dict[int, str]:
    """Feature → the concept it means and its F1, where that reaches 0.5 and the concept is in nine of ten of the texts in which the feature
    is most active."""
    table = key.table(true_at_top=0.9)
    return {int(row.feature): f"{row.concept} {row.f1:.2f}" for row in table[table["f1"] >= FOUND].itertuples()}


def known_labels(file: Path) -> dict[int, Label]:
    """labels.json as an index keeps labels."""
    named = {feature: label.rpartition(" ") for feature, label in read_labels(file).items()}
    return {feature: Label(concept, float(f1), "the answer key") for feature, (concept, _, f1) in named.items()}


def halve(path: Path) -> None:
    """Store weights in 16 bits: what is committed is half as large, and the rounded weights are what everything is measured on."""
    weights = {name: weight.to(torch.float16) if weight.is_floating_point() else weight for name, weight in load_file(path).items()}
    write_whole(path, lambda partial: write_tensors(partial, weights, {"format": "pt"}))
