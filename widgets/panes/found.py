"""What a search found, as rows for its pane: which columns each way of searching has, what each is called and means, and where on the
prompts each feature is active."""

from typing import Any

import numpy as np

from widgets.marks import plain_number, visible
from workbench.features.search.codes import Codes
from workbench.features.search.found import Found

WAYS = {
    "prompts": "prompts that have it",
    "classifier": "a classifier of two sets",
    "token": "a token of a text",
    "attribution": "attribution to an answer",
    "near": "near a feature",
    "label": "words of a label",
    "reads": "reads, not writes",
    "writes": "writes, not reads",
}
SCORES = {  # way → what its score is called, and what it is
    "prompts": ("score", "how well it tells texts like the positive prompts from others: F1 on the index's; without one mean activation"),
    "classifier": ("weight", "its weight in a linear classifier that tells the positive prompts from the negative ones"),
    "token": ("activation", "how active it is at the token, or anywhere on the text at most"),
    "attribution": ("attribution", "gradient · decoder · activation, summed over the text's tokens: how much it supports the answer"),
    "near": ("cosine", "of its direction (decoder row) with the feature's"),
    "label": ("match", "the share of the label that the words are"),
    "reads": ("gap", "its place among the scored features in reading what it is called (1: first, 0: last), less that in writing it"),
    "writes": ("gap", "its place among the scored features in writing what it is called (1: first, 0: last), less that in reading it"),
}  # fmt: skip
COLUMNS = {  # of the searches' own columns: how each is drawn, what it is called, what it is
    "n_positive": ("of", "positive", "on how many of the positive prompts it is active"),
    "min_activation": ("number", "weakest", "its largest activation on the positive prompt where that is smallest"),
    "max_negative": ("number", "negative", "its largest activation on any negative prompt"),
    "mean_positive": ("number", "positive", "its largest activation on a positive prompt, on average"),
    "mean_negative": ("number", "negative", "its largest activation on a negative prompt, on average"),
    "share_of_max": ("percent", "of its max", "its activation there, of the largest on the index's texts"),
    "activation": ("number", "activation", "its largest activation on the text"),
    "density": ("percent", "density", "the share of the index's tokens at which it is active"),
    "input_score": ("score", "reads", "input score: how well it reads what it is called"),
    "output_score": ("score", "writes", "output score: how much of what it is called clamping it writes"),
}


def found_view(found: Found, way: str) -> dict[str, Any]:
    """A Found as plain data for the page, with where on the prompts each feature is active."""
    codes, table = found.codes, found.table
    title, means = SCORES[way]
    known = [name for name in COLUMNS if name in table and table[name].notna().any() and name != title]
    if way == "prompts" and codes is not None and len(codes.prompts) == found.n_positive:
        known.remove("max_negative")
    columns = [{"name": "score", "kind": "bar", "title": title, "means": means}]
    columns += [dict(zip(("name", "kind", "title", "means"), (name, *COLUMNS[name]), strict=True)) for name in known]
    rows = [
        {"feature": int(row["feature"]), "label": visible(str(row["label"]))}
        | {column["name"]: plain_number(row[column["name"]]) for column in columns}
        | {"acts": [] if codes is None else acts_of(codes, int(row["feature"]))}
        for row in table.to_dict("records")
    ]
    kinds = [] if codes is None else ["positive"] * found.n_positive + ["negative"] * (len(codes.prompts) - found.n_positive)
    return {
        "wants": visible(found.wants),
        "removed": [{"filter": each.filter, "n_before": int(each.n_before), "n_removed": int(each.n_removed)} for each in found.removed],
        "n_passed": int(found.n_passed),
        "note": visible(found.note),
        "n_positive": found.n_positive,
        "columns": columns,
        "prompts": [
            {"kind": kind, "tokens": [visible(token) for token in tokens[codes.first :]]}
            for kind, tokens in zip(kinds, codes.str_tokens if codes else [], strict=True)
            if codes
        ],
        "rows": rows,
    }


def acts_of(codes: Codes, feature: int) -> list[list[list[float]]]:
    """For each prompt the tokens, start token left out, at which the feature is active: [place, activation]."""
    column = codes.acts[:, [feature]].tocoo()
    prompt = np.searchsorted(codes.bounds, column.row, side="right") - 1
    found: list[list[list[float]]] = [[] for _ in codes.prompts]
    for i, row, act in zip(prompt.tolist(), column.row.tolist(), column.data.tolist(), strict=True):
        found[i].append([int(row - codes.bounds[i]) - codes.first, round(act, 4)])
    return found
