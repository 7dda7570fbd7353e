"""Does a search by prompt sets find what the answer key calls the feature of a concept?

    python benchmarks/find_atlas.py [--sae 2k] [--prompts 8] [--kinds team city …] [--per-kind 1000] [--texts 20000] [--draws 2] [--first 0]

For every concept whose best feature has F1 ≥ 0.7 over fresh texts: 8 positive prompts, drawn at random from other fresh texts in which
the concept is in play; 8 negative ones, half of them drawn from texts of other concepts of its kind, half those of such texts that have
most concepts in common with a positive prompt. Found: the first feature of the search is the best one by the answer key. Beside it the
feature with the largest mean activation on the positive prompts, and how often the first feature is as good as the best (F1 within 0.05).
Several features that share the best F1 are each the best. The same with the strictest filters: most of the best features do not pass
them, since they are active, weakly, on one of eight near misses.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from workbench import atlas
from workbench.atlas.truth import AnswerKey, kind_of
from workbench.features.search.search import Filters, filtered

GOOD, CLOSE = 0.7, 0.05
STRICT = Filters(share=1.0, margin=0.0)  # active on every positive prompt, silent on every negative one
KEY_SEED, PROMPT_SEED = 1, 7


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sae", default="2k")
    parser.add_argument("--prompts", type=int, default=8, help="positive ones, and as many negative ones")
    parser.add_argument("--kinds", nargs="*", default=[], help="only concepts of these kinds, such as team city")
    parser.add_argument("--per-kind", type=int, default=1000, help="at most so many concepts of a kind")
    parser.add_argument("--texts", type=int, default=20_000, help="that the answer key is measured on, and that prompts are drawn from")
    parser.add_argument("--draws", type=int, default=2, help="of prompts, for every concept")
    parser.add_argument("--first", type=int, default=0, help="the first draw's number")
    return parser.parse_args()


def draw(concept: str, texts: list, by_concept: dict[str, list[int]], n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """(positive, negative) prompts as numbers of texts."""
    positive = rng.choice(by_concept[concept], n, replace=False).tolist()
    kind = kind_of(concept)
    of_kind = {i for other, places in by_concept.items() if other != concept and kind_of(other) == kind for i in places}
    others = sorted(of_kind - set(by_concept[concept])) or sorted(set(range(len(texts))) - set(by_concept[concept]))
    negative = rng.choice(others, n // 2, replace=False).tolist()
    some = rng.choice(others, min(len(others), 2000), replace=False)
    for i in positive[: n - len(negative)]:
        shared = [-len(texts[i].concepts & texts[j].concepts) / len(texts[i].concepts | texts[j].concepts) for j in some]
        negative.append(next(int(some[at]) for at in np.argsort(shared, kind="stable") if int(some[at]) not in negative))
    return positive, negative


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    from workbench.features.search.codes import encode

    bench = atlas.load(options.sae)
    key = AnswerKey.read(bench.model, bench.sae, atlas.texts(seed=KEY_SEED, n=options.texts))
    best, texts = key.best_features(), atlas.texts(seed=PROMPT_SEED, n=options.texts)
    by_concept: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        for concept in text.concepts:
            by_concept.setdefault(concept, []).append(i)
    asked = best[(best["f1"] >= GOOD) & np.array([len(by_concept.get(concept, [])) >= options.prompts for concept in best["concept"]])]
    asked = asked[asked["kind"].isin(options.kinds or asked["kind"])].groupby("kind").head(options.per_kind)
    column, rows = {concept: i for i, concept in enumerate(key.concepts)}, []
    known = bench._known_beside
    for number in range(options.first, options.first + options.draws):
        rng = np.random.default_rng(number)
        for row in tqdm(list(asked.itertuples()), desc=f"draw {number}", unit="search"):
            positive, negative = draw(row.concept, texts, by_concept, options.prompts, rng)
            codes = encode(bench.model, bench.sae, [str(texts[i]) for i in positive + negative])
            is_positive = codes.peaks.prompt < len(positive)
            acts = np.bincount(codes.peaks.feature[is_positive], codes.peaks.activation[is_positive], minlength=bench.sae.cfg.d_sae)
            tables = [filtered(codes, len(positive), filters, known).table["feature"] for filters in (Filters(), STRICT)]
            firsts = [*(int(table[0]) if len(table) else -1 for table in tables), int(acts.argmax())]
            f1 = np.array([key.f1(first)[column[row.concept]] if first >= 0 else 0.0 for first in firsts])
            rows.append((row.kind, *(f1 >= row.f1 - 1e-9), f1[0] >= row.f1 - CLOSE))
    table = pd.DataFrame(rows, columns=["kind", "found", "by_strict", "most_active", "as_good"])
    each = f"{options.prompts} + {options.prompts} prompts each"
    print(f"{len(asked)} concepts with a feature of F1 ≥ {GOOD} in {options.sae}; {options.draws} draws of {each}\n")
    print(f"{'the first feature found is the best one':<58}{table['found'].mean():.3f}   target ≥ 0.80")
    print(f"{f'… or one as good (F1 within {CLOSE})':<58}{table['as_good'].mean():.3f}")
    print(f"{'with the strictest filters':<58}{table['by_strict'].mean():.3f}")
    print(f"{'the most active feature is the best one':<58}{table['most_active'].mean():.3f}\n")
    shown = table.groupby("kind").agg(searches=("found", "size"), found=("found", "mean"), most_active=("most_active", "mean"))
    print(shown.sort_values("searches", ascending=False).round(2).to_string())


if __name__ == "__main__":
    main()
