#!/bin/sh
# eai-delphi 0.1.3: the summary of label scores never counts an answer that failed, and takes it out of the score.
#
# A scorer writes `prediction: null` for every example of a batch that the judging model did not answer in the wanted form. The summary
# (delphi.log.result_analysis) drops those rows, counts what is left, and takes as `failed_count` the difference of that count with itself:
# log_results prints "Average fraction of failed examples: 0.0" whatever failed. A judge that answers 2 of 20 examples, both rightly, shows
# F1 1.0, no failure. Which examples fail is no accident (long or odd ones do), so two labels or judges are compared on different examples.
# Count `prediction.isna()` in load_data's table instead, as below.
#
# Output when last run (November 2026, torch 2.13):
#   answers in the file: 20, of them without a prediction: 18
#   the summary: total_examples 2, failed_count 0, F1 1.00
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "pandas==2.3.3" "numpy==2.2.6" "plotly==6.3.1" "scikit-learn==1.7.2" "orjson==3.11.4"
"$folder/venv/bin/pip" install -q --no-deps "eai-delphi==0.1.3"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from delphi.log.result_analysis import get_agg_metrics, load_data

folder = Path(sys.argv[1]) / "run"
(folder / "scores" / "detection").mkdir(parents=True)
(folder / "log").mkdir()
torch.save({"layers.0": torch.tensor([100])}, folder / "log" / "hookpoint_firing_counts.pt")


def answer(i):
    activating = i % 2 == 0
    said = activating if i < 2 else None
    fields = {"str_tokens": ["a", " b"], "activations": [0.0, float(activating)], "distance": 1, "activating": activating}
    return fields | {"prediction": said, "probability": None, "correct": None if said is None else True}


(folder / "scores" / "detection" / "layers.0_latent0.txt").write_text(json.dumps([answer(i) for i in range(20)]))
table, _ = load_data(folder / "scores", ["layers.0"])
unanswered = int(table.prediction.isna().sum())
(row,) = get_agg_metrics(table, None).to_dict("records")
print(f"answers in the file: {len(table)}, of them without a prediction: {unanswered}")
print(f"the summary: total_examples {row['total_examples']}, failed_count {row['failed_count']}, F1 {row['f1_score']:.2f}")
assert (len(table), unanswered) == (20, 18), "the file was not read as written"
assert row["total_examples"] == 2 and row["f1_score"] == 1.0, "delphi has changed: failed answers enter the score"
assert row["failed_count"] == 0, "delphi has changed: failed answers are counted"
PYTHON
