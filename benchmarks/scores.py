"""Do features write what they read, and does it help to steer by those that do? Two scores of every labelled feature of the atlas.

    python benchmarks/scores.py [--saes 2k,4k] [--texts 6000]

the scores     their rank correlation and the share high in both, by the answer key and by the tokens that directions promote (Arad et al.
               2025); the features in which they part
steering       on prompts and texts that the scores did not see: of each feature the share of its concept, at each of nine doses, read with
               the perplexity to the unsteered model; at equal perplexity (each feature at its largest dose within the bound) the mean of
               the third of highest score against the rest (target: 1.5 times, by the output score), by concept shares as they are and
               in units of what a text about the concept has
"""

import argparse

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

import workbench as wb
from workbench import atlas
from workbench.circuits.intervene import editing
from workbench.circuits.steering.generation import Decoding, generate, read
from workbench.circuits.steering.output_scores import AT_ONCE, Told, doses
from workbench.circuits.steering.steering import clamping_rows
from workbench.features.survey.activity import read_activity
from workbench.model.gemm import machine_rate
from workbench.model.tokens import to_tokens

PROMPTS = ("Fact: The", "She")  # the scores are of "The" and "In"
DOSES = (0.3, 0.5, 0.65, 0.8, 0.9, 1.0, 1.15, 1.3, 1.6)  # times 0.8 of the activation's norm
BOUNDS = (4, 6, 10, 20, 50)  # perplexities
N_NEW, N_SAMPLES = 12, 2
N_DRAWS = 2000


def steered(bench: wb.Workbench, concepts: dict[int, str], told: Told) -> pd.DataFrame:
    """One row a (feature, dose): share of the concept, perplexity (the median over texts)."""
    values, rows = doses(bench, list(concepts)), []
    features, decoding = [f for f in concepts if f in values], Decoding(N_NEW, 1.0, N_SAMPLES, seed=77, progress=False)
    for first in tqdm(range(0, len(features), AT_ONCE), desc="steering", unit="batch", mininterval=10):
        some = features[first : first + AT_ONCE]
        weights = torch.stack([told.of_concept(concepts[f]) for f in some]).repeat_interleave(N_SAMPLES, dim=0)
        for dose in DOSES:
            each = torch.full((len(some),) * 2, torch.nan).fill_diagonal_(0.0) + dose * torch.tensor([values[f] for f in some])
            edit, shares, perplexities = clamping_rows(some, each.repeat_interleave(N_SAMPLES, dim=0)), [], []
            for prompt in PROMPTS:
                start = to_tokens(bench.model, prompt).expand(len(some) * N_SAMPLES, -1)
                with editing(bench.model, bench.sae, edit), machine_rate():
                    new = generate(bench.model, start, decoding, decoding.seeds * len(some))
                log_probs = read(bench.model, bench.sae, torch.cat([start, new.tokens], dim=1), start.shape[1], [0]).log_probs
                n = new.is_text.sum(1)
                shares.append((weights.gather(1, new.tokens) * new.is_text).sum(1) / n)
                perplexities.append(torch.exp(-log_probs.masked_fill(~new.is_text, 0.0).sum(1) / n))
            share, perplexity = (torch.stack(each).view(len(PROMPTS), len(some), -1) for each in (shares, perplexities))
            for i, feature in enumerate(some):
                rows.append((feature, dose, float(share[:, i].nanmean()), float(perplexity[:, i].nanmedian())))
    return pd.DataFrame(rows, columns=["feature", "dose", "share", "perplexity"])


def compared(scores: pd.DataFrame, steering: pd.DataFrame, plain: pd.Series) -> pd.DataFrame:
    """One row a (score, bound): means of the highest third and of the rest, their ratio with its 95 % interval over features."""
    rows, rng = [], np.random.default_rng(0)
    for bound in BOUNDS:
        within = steering[steering["perplexity"] <= bound].sort_values("dose").groupby("feature").last()
        share = within["share"].reindex(scores["feature"]).fillna(plain).to_numpy()  # no dose is within: unsteered
        perplexity = within["perplexity"].reindex(scores["feature"]).to_numpy()
        for name in ("output", "input", "output_tokens"):
            is_high = (scores[name].rank(pct=True, method="first") > 2 / 3).to_numpy()
            for unit, values in (("share", share), ("of natural", share / scores["natural"].to_numpy())):
                high, rest = values[is_high], values[~is_high]
                draws = [rng.choice(high, len(high)).mean() / rng.choice(rest, len(rest)).mean() for _ in range(N_DRAWS)]
                medians = [np.nanmedian(perplexity[chosen]) for chosen in (is_high, ~is_high)]
                low, top = np.quantile(draws, [0.025, 0.975])
                rows.append((bound, name, unit, high.mean(), rest.mean(), high.mean() / rest.mean(), low, top, *medians))
    columns = ["perplexity ≤", "third by", "unit", "highest", "rest", "ratio", "low", "high", "its perplexity", "the rest's"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--saes", default="2k,4k")
    parser.add_argument("--texts", type=int, default=6000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.saes.split(","):
        bench = atlas.load(name)
        scores = wb.score_features(bench, atlas.texts(11, options.texts), atlas.Text.concepts_at, progress=False)
        print(f"\n{name}\n{scores.said(10)}\n")
        table = scores.table
        print(table.describe().loc[["mean", "25%", "50%", "75%", "max"]].round(3).to_string())
        print(f"\nrank correlations\n{table.drop(columns='feature').corr('spearman', numeric_only=True).round(2).to_string()}")
        for least in (0.25, 0.5):
            known = table[table["input"].notna() & table["output"].notna()]
            high = [(known[score] >= least).mean() for score in ("input", "output")]
            print(f"{least} or more: input {high[0]:.1%}, output {high[1]:.1%}, both {scores.both_high(least):.1%}")
        upper = [(table[score].rank(pct=True) > 2 / 3) for score in ("input", "output")]
        print(f"in the highest third of both {(upper[0] & upper[1]).mean():.1%} (by chance 11.1 %)")
        told = Told.of(
            read_activity(bench.model, {"": bench.sae}, atlas.texts(12, options.texts), atlas.Text.concepts_at, False)[""].corpus,
            bench.model.unembed.W_U.shape[1],
        )
        table = table[table["label"].isin(list(told.column)) & table[["input", "output", "output_tokens"]].notna().all(axis=1)]
        table = table.assign(natural=[told.natural[told.column[label]] for label in table["label"]])
        steering = steered(bench, dict(zip(table["feature"], table["label"], strict=True)), told)
        print(f"\nby dose, medians over features\n{steering.groupby('dose')[['share', 'perplexity']].median().round(3).T.to_string()}")
        found = compared(table, steering, table.set_index("feature")["unsteered"])
        print(f"\nsteering by the third of highest score, and by the rest\n{found.round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
