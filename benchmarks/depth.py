"""At which layer and token does a step of an answer appear, and when does the answer depend on it? The atlas's held-out questions.

    python benchmarks/depth.py [--questions 512]

For each question the features that mean one of its steps (player, team, city, state, relation) at each layer are switched off, a
step and a position at a time (`trace_steps`). Printed for each kind of step: the mean depth of its effect (weighted by what supports the
answer), in how many of the questions that know both one kind comes before another, and where the effect is: layer × place in the prompt.
Player, team, city and state decide between this answer and another of its kind: their metric is that logit difference. The relation decides
the kind: its metric is the answer's logit less the mean logit. A step without a feature at a layer counts as nothing there, so how many
questions and layers know it stands beside.
"""

import argparse
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench import atlas
from workbench.atlas.truth import kind_of
from workbench.bench import Workbench
from workbench.circuits.depth.layers import trace_steps
from workbench.circuits.metrics import logit_diff

KINDS = ("player", "team", "city", "state", "relation")
PLACES = ("before", "name", "between", "last")  # the player's last name; the last token


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=512, help="how many of the held-out ones")
    return parser.parse_args()


def one_question(bench: Workbench, question: atlas.Question) -> pd.DataFrame:
    """The trace's table with the kind of each step and the place of each position; empty where no step has a feature."""
    *chain, relation = question.steps
    parts = []
    for some, metric in ((chain, logit_diff(question.answer, question.baseline)), ([relation], logit_diff(question.answer))):
        if steps := atlas.features_of(some):
            trace = trace_steps(bench, bench.layers, question.prompt, metric, steps, progress=False)
            parts.append(trace.table.assign(metric=trace.clean_metric))
    table, concepts = pd.concat(parts or [pd.DataFrame({"step": [], "pos": []})]), atlas.concepts(question.prompt)
    name = 1 + next(i for i, now in enumerate(concepts) if question.steps[0] in now)  # after the start token
    cuts = [name - 1, name, len(concepts) - 1]
    where = [PLACES[i] for i in np.searchsorted(cuts, table["pos"])]
    return table.assign(kind=[kind_of(step) for step in table["step"]], place=where)


def depths(table: pd.DataFrame) -> pd.DataFrame:
    """One row a question, one column a kind: the mean layer of the effect, weighted by what supports the answer; NaN where not known."""
    support = table.assign(weight=table["effect"].clip(lower=0).fillna(0.0))
    support["moment"] = support["weight"] * support["layer"]
    sums = support.groupby(["question", "kind"])[["moment", "weight"]].sum()
    return (sums["moment"] / sums["weight"].where(sums["weight"] > 0)).unstack().reindex(columns=list(KINDS))


def interval(values: np.ndarray, n: int = 2000) -> str:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (n, len(values))), axis=1)
    return f"{np.median(values):5.2f} (95 %: {np.quantile(medians, 0.025):.2f}–{np.quantile(medians, 0.975):.2f})"


def report(table: pd.DataFrame) -> None:
    found = depths(table)
    print("mean layer of a step's effect, median over questions")
    for kind in KINDS:
        known, mine = found[kind].dropna().to_numpy(), table[(table["kind"] == kind) & table["effect"].notna()]
        layers = mine.groupby("question")["layer"].nunique().mean()
        print(
            f"  {kind:<9}" + (f"{interval(known)}   {len(known)} questions, features at {layers:.1f} of the layers" if len(known) else "–")
        )
    print("\nwhich comes first, over the questions that know both")
    for first, second in combinations(KINDS, 2):
        both = (found[second] - found[first]).dropna()
        if len(both):
            print(f"  {first:<7} before {second:<9} {(both > 0).mean():4.0%} of {len(both):3}, by {interval(both.to_numpy())} layers")
    print("\nmean effect (% of the metric) by layer and place: before the name, last name, between, last token")
    share = table.assign(share=100 * table["effect"] / table["metric"])
    sums = share.groupby(["kind", "layer", "place", "question"])["share"].sum(min_count=1).groupby(["kind", "layer", "place"]).mean()
    print(sums.unstack("place")[list(PLACES)].reindex(list(KINDS), level="kind").round(2).to_string())


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    bench, parts = atlas.load(), []
    for number, question in enumerate(tqdm(atlas.questions(held_out=True)[: options.questions], unit="question", mininterval=10)):
        parts.append(one_question(bench, question).assign(question=number))
    table = pd.concat(parts, ignore_index=True)
    print(f"{options.questions} held-out questions, layers {', '.join(bench.layers)}\n")
    report(table)


if __name__ == "__main__":
    main()
