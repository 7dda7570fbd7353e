"""A ranking → the plain data that ranking.js draws beside the rows: the chosen feature, and the pictures of all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from widgets.marks import visible
from widgets.rows import Rows

ORDERS = ("activation", "attribution", "effect")
N_EXAMPLES, N_AROUND = 8, 12  # examples shown, and tokens to either side of the strongest
N_LINES, N_POINTS = 10, 600  # largest effects: more lines would be a tangle, more points a blot
N_LETTERS = 60  # of a label in a picture


def feature_detail(ranking: Any, sums: Rows, feature: int, examples: Callable[[int], Sequence[Any]] | None) -> dict[str, Any]:
    """The chosen feature as plain data: its sums over positions and their ranks, the prompt shaded by it, its strongest texts."""
    found = np.flatnonzero(sums.table["feature"].to_numpy() == feature)
    pairs = ranking.table[(ranking.table["feature"] == feature).to_numpy()]
    name = "effect" if pairs["effect"].notna().any() else "attribution"
    values = dict(zip(pairs["pos"], pairs[name], strict=True))
    first = 0 if ranking.is_start_included else 1
    shown = list(examples(feature))[:N_EXAMPLES] if examples else []
    start = None if ranking.is_start_included else ranking.str_tokens[0]
    message = "" if len(found) else "Not active on this prompt."
    scales = digits_of({by: sums.largest(by) for by in ORDERS})
    return {
        "feature": int(feature),
        "label": visible(sums.table["label"].iat[found[0]]) if len(found) else "",
        "measures": [
            {"name": by, "value": plain(sums.table[by].iat[found[0]]), "rank": sums.rank(by, found[0]), "scale": scales[by]}
            for by in reversed(ORDERS)
            if len(found)
        ],
        "tokens": [visible(token) for token in ranking.str_tokens[first:]],
        "values": [plain(values.get(pos)) for pos in range(first, len(ranking.str_tokens))],
        "name": name,
        "scale": plain(ranking.table[name].abs().max()) or 0.0,
        "metric": plain(ranking.clean_metric),
        "examples": [example_window(example.str_tokens, example.activations, start) for example in shown],
        "message": message or ("No example texts for this feature." if examples and not shown else ""),
    }


def question_of(ranking: Any) -> dict[str, Any]:
    """What the numbers are of: the metric in words, its value, and what to know of the answer and of the numbers first."""
    names = {name: visible(getattr(ranking, name)) for name in ("prompt", "answer", "baseline")}
    notes = [visible(note[:1].upper() + note[1:]) for note in getattr(ranking, "notes", ())]
    return {**names, "metric": plain(ranking.clean_metric), "caveat": visible(getattr(ranking, "caveat", "")), "notes": notes}


def digits_of(scales: Mapping[str, float]) -> dict[str, float]:
    """The scale that a column's decimals are chosen for: attribution and effect are in one unit and agree."""
    shared = min((scales[name] for name in ("attribution", "effect") if scales[name] > 0), default=0.0)
    return {**scales, "attribution": shared, "effect": shared}


def example_window(str_tokens: Sequence[str], activations: Any, start: str | None = None) -> dict[str, Any]:
    """The tokens around the strongest one, a leading start token left out, with their activations (null where the feature is off)."""
    values = np.asarray(activations, dtype=float)
    strongest = int(values.argmax())
    first, last = max(0, strongest - N_AROUND), min(len(values), strongest + N_AROUND + 1)
    first = 1 if first == 0 and str_tokens[0] == start else first
    is_cut = first > 1 or (first == 1 and str_tokens[0] != start)
    around = [(visible(str_tokens[i]), round(values[i], 4) if values[i] > 0 else None) for i in range(first, last)]
    around = [("…", None)] * is_cut + around + [("…", None)] * (last < len(values))
    largest = round(float(values.max()), 4)
    return {"tokens": [token for token, _ in around], "activations": [value for _, value in around], "max": largest, "scale": largest}


def picture(ranking: Any, kind: str) -> dict[str, Any]:
    """kind "ranks": the largest effects' ranks in the three orders. "agreement": effect against attribution and activation."""
    measured = int(ranking.table["effect"].notna().sum())
    rows = ranking.top(N_LINES if kind == "ranks" else max(measured, 1))
    if kind == "agreement":
        rows = rows.loc[rows["effect"].abs().nlargest(N_POINTS).index]
    about = {"kind": kind, "n_measured": measured, "orders": list(ORDERS), "points": [_point(row) for row in rows.itertuples()]}
    if kind == "ranks":
        return about
    agreement = ranking.agreement()
    figures = {
        by: {
            "correlation": plain(getattr(agreement, f"{by}_correlation")),
            "rank": plain(getattr(agreement, f"{by}_rank_correlation")),
            "overlap": getattr(agreement, f"{by}_overlap"),
        }
        for by in ("attribution", "activation")
    }
    if agreement.hangs_on_one_pair:
        row = ranking.table.loc[agreement.outlier]
        figures["attribution"]["without"] = plain(agreement.attribution_without)
        figures["attribution"]["pair"] = f"{visible(row['label']) or 'feature'} {row['feature']} at “{visible(row['token'])}”"
    return {**about, "n_top": agreement.n_top, "agreement": figures}


def _point(row: Any) -> dict[str, Any]:
    values = {by: plain(getattr(row, by)) for by in ORDERS}
    ranks = {by: plain(getattr(row, f"{by}_rank")) for by in ORDERS}
    label = visible(row.label)[:N_LETTERS]
    return {"feature": int(row.feature), "pos": int(row.pos), "token": visible(row.token), "label": label, **values, "ranks": ranks}


def plain(value: Any) -> Any:
    """A cell as JSON knows it: None for what is missing, text made visible."""
    if isinstance(value, str):
        return visible(value)
    if pd.isna(value) or not np.isfinite(float(value)):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(f"{value:.6g}")
