"""Do the three orders find what the answers need? Every held-out question of the atlas, every effect measured, against the answer key.

    python benchmarks/held_out.py [--questions 512] [--sae 2k]

Printed: medians over the questions of the agreement with the measured effect; and for how many of the steps that an answer needs (player,
team, city, state, relation) one of an order's ten first features means the step (F1 ≥ 0.5), kind by kind.
"""

import argparse

import torch

from workbench import atlas
from workbench.atlas.truth import AnswerKey, accuracy, score_rankings


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=512)
    parser.add_argument("--sae", default="2k")
    parser.add_argument("--texts", type=int, default=8_000, help="that the answer key is read from")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench, asked = atlas.load(options.sae), atlas.questions()[: options.questions]
    key = AnswerKey.read(bench.model, bench.sae, atlas.texts(seed=3, n=options.texts))
    print(f"{len(asked)} held-out questions, {accuracy(bench.model, asked)['is_right'].mean():.3f} of them answered right\n")
    agreements, steps = score_rankings(bench, key, asked)
    print("medians over the questions")
    print(agreements.drop(columns=["question", "prompt"]).median().round(2).to_string(), "\n")
    print("share of the steps that one of the ten first features means")
    table = steps.pivot_table("is_found", "kind", "order")
    table.loc["all"] = steps.groupby("order")["is_found"].mean()
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
