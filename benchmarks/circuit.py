"""Is the circuit of an answer true? The atlas's held-out questions against their answer key, and swapping one state for another.

    python benchmarks/circuit.py [--n 512] [--features 30] [--pairs 100] [--sae FOLDER] [--over saes|transcoders [--transcoders FOLDER]]

Printed: steps, links and strangers (atlas/chains.py) of the strongest 30 features, with the interval of the mean over questions, for
measured edges, for attributed ones, for random graphs of equal size, and for all active features at once: no choice among them shows more
(or for direct effects between transcoders' features, with the scores of the replacement model, which stand in for them); then, over pairs
of held-out questions about capitals, in how many the features of one question's team, city and state, put in the place of the other's, give
its capital, place by place.
"""

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench import atlas
from workbench.atlas.build import label
from workbench.atlas.chains import LINKS, Chains, Truth, random_graph
from workbench.atlas.truth import AnswerKey, kind_of
from workbench.bench import Workbench
from workbench.circuits.graph.groups import concept
from workbench.circuits.metrics import logit_diff
from workbench.sae.config import TranscoderConfig
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.sae import SAE
from workbench.sae.stack import Transcoders, load_stack
from workbench.sae.transcoder import Transcoder

N_RESAMPLES = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=512, help="questions")
    parser.add_argument("--features", type=int, default=30, help="kept in each graph")
    parser.add_argument("--over", choices=("saes", "transcoders"), default="saes", help="whose features the graphs have")
    parser.add_argument("--transcoders", help="a set or a cross-layer one for the atlas, in place of its own")
    parser.add_argument(
        "--sae", action="append", default=[], help="one for the atlas, in place of its own at that hook point; several times"
    )
    parser.add_argument("--pairs", type=int, default=100, help="of questions to swap between")
    parser.add_argument("--texts", type=int, default=8_000, help="that the answer key is read from")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench, asked = atlas.load(), atlas.questions()
    if options.transcoders:
        bench = replace(bench, transcoders=load_stack(options.transcoders))
    others = {sae.reads: sae for sae in map(SAE.load, options.sae)}
    if others:
        bench = replace(bench, layers={**bench.layers, **others})
    if options.n:
        texts = atlas.texts(seed=3, n=options.texts)
        known = bench.layers.values() if options.over == "saes" else readers(bench.transcoders)
        keys = {each.reads: AnswerKey.read(bench.model, each, texts) for each in known}
        if options.over == "saes":
            bench = replace(bench, layer_labels={**bench.layer_labels, **{name: label(keys[name]) for name in others}})
        chains = Chains(keys)
        some = asked[:: max(1, len(asked) // options.n)][: options.n]
        found = (truths if options.over == "saes" else transcoder_truths)(bench, chains, some, options.features)
        report(found, [kind_of(step) for step in asked[0].steps])
    if options.pairs and options.over == "saes":
        report_swaps(bench, [each for each in asked if each.steps[-1] == "capital-of"], options.pairs)


def truths(bench: Workbench, chains: Chains, asked: Sequence[atlas.Question], n_features: int) -> dict[str, list[Truth]]:
    found: dict[str, list[Truth]] = {"measured": [], "attributed": [], "random": [], "all at once": []}
    for number, question in enumerate(tqdm(asked, desc="circuits", unit="question")):
        metric = logit_diff(question.answer, question.baseline)
        measured = bench.circuit(question.prompt, metric, progress=False)
        attributed = bench.circuit(question.prompt, metric, "attributed", progress=False)
        kept = measured.strongest(n_features)
        for name, graph in (
            ("measured", kept),
            ("attributed", attributed.strongest(n_features)),
            ("random", random_graph(measured, kept, number)),
            ("all at once", attributed),
        ):
            found[name].append(chains.truth(graph, question))
    return found


def transcoder_truths(bench: Workbench, chains: Chains, asked: Sequence[atlas.Question], n_features: int) -> dict[str, list[Truth]]:
    found: dict[str, list[Truth]] = {"direct": [], "random": []}
    scores = []
    for number, question in enumerate(tqdm(asked, desc="circuits", unit="question")):
        whole = bench.circuit(question.prompt, logit_diff(question.answer, question.baseline), over="transcoders", progress=False)
        kept = whole.strongest(n_features)
        scores.append(whole.scores)
        found["direct"].append(chains.truth(kept, question))
        found["random"].append(chains.truth(random_graph(whole, kept, number), question))
    for name in ("replacement", "completeness"):
        print(f"{name} score {interval(np.array([getattr(each, name) for each in scores]))}")
    return found


def readers(transcoders: Transcoders) -> list[Transcoder]:
    """What reads at each layer; of a cross-layer one with what it writes into its own, which the answer key does not ask for."""
    if not isinstance(transcoders, CrossLayerTranscoder):
        return list(transcoders.values())
    cfg, found = transcoders.cfg, []
    for layer, places in enumerate(zip(cfg.hook_names_in, cfg.hook_names_out, strict=True)):
        each = Transcoder(TranscoderConfig(cfg.d_in, cfg.d_out, cfg.d_sae, *places, cfg.model_name, cfg.architecture))
        weights = {"W_enc": transcoders.W_enc[layer], "b_enc": transcoders.b_enc[layer], "W_dec": transcoders.W_dec[layer][:, 0]}
        weights |= {"b_dec": transcoders.b_dec[layer]}
        weights |= {} if transcoders.threshold is None else {"threshold": transcoders.threshold[layer]}
        each.load_state_dict(weights)
        found.append(each.requires_grad_(False))
    return found


def report(found: dict[str, list[Truth]], kinds: Sequence[str]) -> None:
    print(f"{len(found['random'])} held-out questions; means over questions, 95 % intervals\n")
    for name, truths_of in found.items():
        steps, links = (np.array([getattr(each, part) for each in truths_of], dtype=float) for part in ("steps", "links"))
        strangers = np.array([each.strangers for each in truths_of])
        print(f"{name:<11} steps {interval(steps.mean(1))}  links {interval(links.mean(1))}  strangers {interval(strangers)}")
        print("   " + "  ".join(f"{kind} {value:.2f}" for kind, value in zip(kinds, steps.mean(0), strict=True)))
        print("   " + "  ".join(f"{link} {value:.2f}" for link, value in zip(LINKS, links.mean(0), strict=True)))


def interval(values: np.ndarray) -> str:
    values, rng = values[np.isfinite(values)], np.random.default_rng(0)
    means = rng.choice(values, (N_RESAMPLES, len(values))).mean(1)
    return f"{values.mean():.2f} ({np.quantile(means, 0.025):.2f}–{np.quantile(means, 0.975):.2f})"


def report_swaps(bench: Workbench, asked: Sequence[atlas.Question], n_pairs: int) -> None:
    """By label, and with what the circuit says is made of these (Circuit.grow): members that have no label, or another's."""
    rng, rows, others = random.Random(0), [], Counter[str]()
    draws = (rng.sample(list(asked), 2) for _ in cycle([0]))
    pairs = [(one, other) for one, other in islice(filter(are_apart, draws), n_pairs)]
    groups = {question.prompt: groups_of(bench, question) for question in tqdm({q: 0 for pair in pairs for q in pair}, desc="circuits")}
    for one, other in tqdm(pairs, desc="swapping", unit="pair"):
        for name in groups[one.prompt]:
            off, on = groups[one.prompt][name], groups[other.prompt][name]
            swap = bench.swap(one.prompt, off, on, wanted=other.answer, source=other.prompt)
            table = swap.table.assign(features=name, is_other=swap.table["answer"] == other.answer)
            rows.append(table.assign(is_control=table["control_answer"] == other.answer))
    last = list(bench.layers)[-1]
    for found in groups.values():
        by_label, grown = (set(found[name].get(last, ())) for name in ("state, by label", "state, grown"))
        others.update(f"{feature} {bench.layer_labels[last].get(feature, '(no label)')}" for feature in grown - by_label)
    columns = ["is_other", "probability", "before", "control", "is_control", "n_off", "n_on"]
    table = pd.concat(rows)
    places = pd.Categorical(table["hook_name"], list(bench.layers), ordered=True)
    means = table.assign(hook_name=places).groupby(["features", "hook_name"], observed=True)[columns].mean()
    print(
        f"\n{n_pairs} pairs of questions about capitals: how often the other's capital is the first token, its probability, the controls'"
    )
    print(means.round(3).to_string())
    print(f"at {last}, what else the state's groups hold: {', '.join(f'{name} ({n})' for name, n in others.most_common(12))}")


def are_apart(pair: Sequence[atlas.Question]) -> bool:
    return pair[0].steps[3] != pair[1].steps[3] and pair[0].answer != pair[1].answer


def groups_of(bench: Workbench, question: atlas.Question) -> dict[str, dict[str, list[int]]]:
    """name → hook name → features at the last token."""
    circuit, found = bench.circuit(question.prompt, logit_diff(question.answer), progress=False), {}
    for name, steps in (("team, city and state", question.steps[1:4]), ("state", question.steps[3:4])):
        labelled = {
            place: [feature for feature, label in bench.layer_labels[place].items() if concept(label) in steps] for place in bench.layers
        }
        found[f"{name}, by label"] = labelled
        nodes = circuit.nodes[circuit.nodes["kind"].eq("feature") & circuit.nodes["label"].map(concept).isin(steps)]["node"]
        grown = circuit.grow("group", nodes.tolist()).features("group", pos=-1)
        found[f"{name}, grown"] = {place: sorted({*labelled.get(place, ()), *grown.get(place, ())}) for place in bench.layers}
    return found


if __name__ == "__main__":
    main()
