"""Figures that a README repeats are those that a notebook's committed output shows."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CLAIMS = [  # where, how it says it, the notebook, the number in its outputs, and what that number makes of the saying
    ("README.md", r"correlation of this prompt down to (0\.\d+)", "01_why_sacramento", r"attribution: .*[^k] correlation +(0\.36)", float),
    ("README.md", r"without it, it is (0\.\d+)", "01_why_sacramento", r"^correlation (0\.\d+)", float),
    ("notebooks/README.md", r"clean at the top for (\w+ in \w+) labelled", "04_feature_tour", r"share with ≥ 0.9 +(0\.\d+)", "in six"),
    ("notebooks/README.md", r"in the smaller one (\d+) % have one", "07_features_vs_neurons", r"at most 0\.3 for (\d+)%", "the rest"),
    (
        "notebooks/README.md",
        r"(\w+ quarters) of the logit difference",
        "09_evidence",
        r"ten by effect .* (0\.\d+) +\S+ +\S+$",
        "quarters",
    ),
    ("notebooks/README.md", r"these ten alone (\w+ fifths) are left", "09_evidence", r"ten by effect .* (0\.\d+)$", "fifths"),
    ("notebooks/README.md", r"where a (fifth) is left with none", "09_evidence", r"^(\d+)% of the logit difference is left", "fifth"),
]
WORDS = "no one two three four five six".split()
SAID = {
    "in six": lambda share: f"{WORDS[round(6 * share)]} in six",
    "the rest": lambda percent: f"{100 - percent:.0f}",
    "quarters": lambda share: f"{WORDS[round(4 * share)]} quarters",
    "fifths": lambda share: f"{WORDS[round(5 * share)]} fifths",
    "fifth": lambda percent: "fifth" if round(percent / 20) == 1 else f"{percent} %",
    float: lambda number: f"{number:.2f}",
}


def shown(notebook: str) -> str:
    """What its outputs say in plain text."""
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.parametrize(("where", "says", "notebook", "shows", "meaning"), CLAIMS, ids=[claim[1] for claim in CLAIMS])
def test_a_figure_in_a_readme_is_what_the_notebook_shows(where, says, notebook, shows, meaning):
    said = re.search(says.replace(" ", r"\s+"), (ROOT / where).read_text())
    found = re.search(shows, shown(notebook), re.MULTILINE)
    assert said, f"{where} does not say {says!r} any more: change the claim here with it"
    assert found, f"{notebook} does not show {shows!r}"
    assert said[1] == SAID[meaning](float(found[1]))
