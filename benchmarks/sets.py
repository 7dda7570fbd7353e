"""How small a set of features carries an answer, on the atlas's held-out questions: by effect, attribution and activation, at random.

    python benchmarks/sets.py [--questions 512] [--random 5] [--share 0.8] [--sae 2k]

For each question its (feature, position) pairs are ranked, and the smallest set of each order is found that keeps the share of the logit
difference when everything else is switched off, the SAE's error included. Random sets of the size that effect needs are measured beside. Of
the smallest set by effect: the share of the answer key's steps that one of its features stands for (F1 ≥ 0.5).
"""

import argparse

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench import atlas
from workbench.atlas.truth import FOUND, AnswerKey
from workbench.circuits.evidence.set_curves import RANDOM, set_curves
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ranking import rank


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=512, help="how many of the held-out ones")
    parser.add_argument("--random", type=int, default=5, help="random orders per question")
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--sae", default=None)
    return parser.parse_args()


class Found:
    """Is a feature a concept's? F1 of each feature with all concepts, looked up once."""

    def __init__(self, key: AnswerKey):
        self.key, self.column, self.known = key, {concept: i for i, concept in enumerate(key.concepts)}, {}

    def share(self, features: list[int], steps: tuple[str, ...]) -> float:
        for feature in features:
            if feature not in self.known:
                self.known[feature] = self.key.f1(feature)
        has = [step in self.column and any(self.known[f][self.column[step]] >= FOUND for f in features) for step in steps]
        return float(np.mean(has))


def one_question(bench, question: atlas.Question, found: Found, n_random: int, share: float) -> dict[str, float]:
    metric = logit_diff(question.answer, question.baseline)
    ranking = rank(bench, question.prompt, metric, progress=False)
    sets = FeatureSets(bench, question.prompt, metric)
    curves = set_curves(sets, ranking.table, n_random=n_random, progress=False)
    sizes = curves.smallest(share).set_index("order")["keeps"]
    row = {f"by {order}": sizes[order] for order in ("effect", "attribution", "activation", RANDOM)}
    row |= {"pairs": len(ranking.table), "all": sets.measure({"all": ranking.table})["kept"][0], "none": sets.floor / sets.clean_metric}
    if np.isnan(sizes["effect"]):
        return row
    n = int(sizes["effect"])
    for order in ("activation", RANDOM):
        mine = curves.table[(curves.table["order"] == order) & (curves.table["size"] == n)]
        row[f"kept by {order}, same size"] = mine["kept"].mean()
    chosen = [ranking.top(n, by=order)["feature"].tolist() for order in ("effect", "activation")]
    row["steps"], row["steps by activation"] = (found.share(features, question.steps) for features in chosen)
    return row


def interval(values: pd.Series, n: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    known, rng = values.dropna().to_numpy(), np.random.default_rng(0)
    medians = np.median(rng.choice(known, (n, len(known))), axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    bench = atlas.load(options.sae)
    asked = atlas.questions(held_out=True)[: options.questions]
    found = Found(AnswerKey.read(bench.model, bench.sae, atlas.texts(seed=3, n=10_000)))
    rows = [one_question(bench, each, found, options.random, options.share) for each in tqdm(asked, unit="question", mininterval=10)]
    table = pd.DataFrame(rows)
    print(f"{len(table)} held-out questions, SAE {bench.sae_name}, share {options.share:.0%}; medians with 95 % bootstrap intervals\n")
    for name in table:
        never = table[name].isna().mean()
        low, high = interval(table[name])
        print(f"{name:<34}{table[name].median():>8.2f}   {low:.2f}–{high:.2f}" + (f"   never for {never:.0%}" if never else ""))


if __name__ == "__main__":
    main()
