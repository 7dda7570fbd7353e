"""A ranking made of plain numbers, without a model, for the views' tests. Effects nearly follow attribution, activation does not."""

import numpy as np
import pandas as pd

from workbench.circuits.ranking.ranking import FeatureRanking

PROMPT = "Fact: The capital of the state where Kobe Bryant played basketball is"
STR_TOKENS = ["<|endoftext|>", "Fact", ":", *(" " + word for word in PROMPT.split()[1:])]
LABELS = {
    9: "Lakers players",
    41: "asked for a capital",
    7: "California",
    120: "Los Angeles",
    88: "basketball",
    300: "a state of the United States",
    12: "New York",
}


def made_table(n_rows: int = 160, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    pairs = rng.choice(400 * (len(STR_TOKENS) - 1), n_rows, replace=False)
    attribution = rng.standard_t(2, n_rows) * 0.03
    features, pos = pairs // (len(STR_TOKENS) - 1), 1 + pairs % (len(STR_TOKENS) - 1)
    planted = [(9, 9, 3.7), (41, 4, 1.9), (41, 12, 0.8), (7, 9, 1.4), (120, 9, 0.9), (88, 11, 0.35), (300, 7, 0.5), (12, 12, -1.1)]
    for row, (feature, at, value) in enumerate(planted[:n_rows]):
        features[row], pos[row], attribution[row] = feature, at, value
    table = pd.DataFrame({"feature": features, "pos": pos, "token": [STR_TOKENS[at] for at in pos]})
    table["activation"] = rng.gamma(1.5, 2.0, n_rows)
    table["attribution"] = attribution
    table["effect"] = attribution * rng.uniform(0.8, 1.15, n_rows) + rng.normal(0, 0.01, n_rows)
    table["label"] = [LABELS.get(int(feature), "") for feature in features]
    return table.drop_duplicates(["feature", "pos"])


def made_ranking(**changed) -> FeatureRanking:
    fields = dict(prompt=PROMPT, str_tokens=STR_TOKENS, answer=" Sacramento", baseline=" Albany", clean_metric=5.12, table=made_table())
    fields |= dict(hook_name="blocks.3.hook_resid_pre", model_name="atlas", sae_name="4,096 features")
    return FeatureRanking(**(fields | changed))
