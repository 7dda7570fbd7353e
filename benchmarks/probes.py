"""Features or probes? Over concepts of the atlas: AUROC of linear classifiers on the activation, on features and on neurons.

    python benchmarks/probes.py [--concepts 100] [--texts 80000] [--sae 2k]

For each concept 60 texts with it and 60 without, among the shorter half of the texts; judged on texts not seen (five parts, everything
chosen inside of four) and, shifted, on as many of the longer half. Printed: means over concepts, how often features or the activation are
better beyond the interval of their difference, and in how many concepts each comes first; where features lose, too.
"""

import argparse
from collections import Counter

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench import atlas
from workbench.features.probes.probe import judged
from workbench.features.probes.reads import read

N_EACH = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--concepts", type=int, default=100)
    parser.add_argument("--texts", type=int, default=80_000)
    parser.add_argument("--sae", default="2k")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench, rng = atlas.load(options.sae), np.random.default_rng(0)
    texts = list(dict.fromkeys(atlas.texts(seed=7, n=options.texts)))
    lengths = np.array([len(text) for text in texts])
    halves = np.flatnonzero(lengths <= np.median(lengths)), np.flatnonzero(lengths > np.median(lengths))
    has = {
        concept: np.array([concept in text.concepts for text in texts])
        for concept in sorted(frozenset().union(*(t.concepts for t in texts)))
    }
    enough = [concept for concept, here in has.items() if all(here[half].sum() >= N_EACH for half in halves)]
    asked = sorted(rng.permutation(enough)[: options.concepts])
    found = []
    for concept in tqdm(asked, desc="concepts", unit="concept"):
        here = has[concept]
        sets = [(rng.permutation(half[here[half]])[:N_EACH], rng.permutation(half[~here[half]])[:N_EACH]) for half in halves]
        reads = [read(bench.model, bench.sae, [texts[i] for i in np.concatenate(each)], progress=False) for each in sets]
        y = np.repeat([True, False], N_EACH)
        found.append((concept, judged(reads[0], y, (reads[1], y), progress=False)))
    report(found)


def report(found: list) -> None:
    print(f"{len(found)} concepts, {N_EACH} + {N_EACH} texts each\n")
    tables = pd.concat([probes.table.assign(concept=concept) for concept, probes in found])
    print(tables.groupby("reads", sort=False)[["auroc", "shifted"]].agg(["mean", "median"]).round(3).to_string(), "\n")
    for column, low, high, name in (
        ("auroc", "low", "high", "texts like those learned from"),
        ("shifted", "shifted_low", "shifted_high", "shifted texts"),
    ):
        first = Counter(probes.table.sort_values(column, ascending=False, kind="stable")["reads"].iloc[0] for _, probes in found)
        print(f"{name}: first, {', '.join(f'{reads} {n}' for reads, n in first.most_common())}")
        for reads in ("all features", "10 features", "one feature", "neurons"):
            rows = [probes.differences.set_index("reads").loc[reads] for _, probes in found]
            better = sum(row[low] > 0 for row in rows), sum(row[high] < 0 for row in rows)
            print(
                f"   the activation beside {reads}: better in {better[0]}, worse in {better[1]}, no difference in {len(rows) - sum(better)}"
            )


if __name__ == "__main__":
    main()
