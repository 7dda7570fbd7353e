"""Find features by example: prompts that have something and prompts that lack it, what each filter removed, and why each feature passed.

    pane = Finder(bench, positive=["Kobe Bryant plays", …], negative=["Larry Bird plays", …])
    pane.run().wait(); pane.found                           the Found that bench.find gives
    pane.share = 0.5                                        filters work on what was read: no model

The prompts are read in a thread; workbench/features/search/search.py says what the filters and the score are.
"""

from typing import Any

import numpy as np
import traitlets

from widgets.html.find import found_html
from widgets.marks import FAINT, visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import WorkingPane, module, style
from workbench.features.search.codes import Codes, encode
from workbench.features.search.found import Found
from workbench.features.search.search import Filters, checked_sets, filtered

MEASURES = ("score", "min_activation", "mean_activation", "max_negative", "n_positive", "density")


class Finder(WorkingPane):
    """A search by positive and negative prompts, as they are typed."""

    _esm = module("shared/copy", "shared/prompt_list", "finder/finder")
    _css = style("finder/finder")
    kept = ("feature", "positive", "negative", "share", "margin", "max_density", "top")
    maker = "Finder(bench)"

    positive = traitlets.List(traitlets.Unicode(), help="prompts on which the feature is active").tag(sync=True)
    negative = traitlets.List(traitlets.Unicode(), help="prompts on which it is less so, or silent").tag(sync=True)
    share = traitlets.Float(0.75, min=0.01, max=1.0, help="of the positive prompts that suffices").tag(sync=True)
    margin = traitlets.Float(2.0, min=0.0, help="activation allowed on negative prompts, in means over the positive ones").tag(sync=True)
    max_density = traitlets.Float(0.1, min=1e-7, max=1.0, help="share of the index's tokens").tag(sync=True)
    top = traitlets.Int(20, min=1, max=500).tag(sync=True)

    has_index = traitlets.Bool(read_only=True).tag(sync=True)
    code = traitlets.Unicode(read_only=True, help="the search as a line of Python").tag(sync=True)
    view = traitlets.Dict(read_only=True, help="what the filters left").tag(sync=True)
    outside = traitlets.Dict(read_only=True, help="the selection, where it is not among the results").tag(sync=True)

    def __init__(self, bench: Any, **traits: Any):
        self._bench = bench
        self._read: tuple[list[str], list[str]] = [], []  # the prompts that were searched with
        self._codes: Codes | None = None  # what features do on them
        self.found: Found | None = None
        super().__init__(bench.model, **traits)
        self.set_trait("has_index", bench.index is not None)
        self._write()

    def work(self, job: Job) -> None:
        """What bench.find does, but that it can end between two batches."""
        bench, sets = self._bench, checked_sets(list(self.positive), list(self.negative))
        codes = encode(bench.model, bench.sae, [*sets[0], *sets[1]], job.go_on)
        with SETTING:
            if job.is_cancelled:
                return
            self._read, self._codes = sets, codes
            self._filter()

    @traitlets.observe("share", "margin", "max_density", "top")
    def _filter(self, change: Any = None) -> None:
        if self._codes is not None:
            known = self._bench._known_beside
            self.found = filtered(self._codes, len(self._read[0]), Filters(**self._filters()), known)
            self.set_trait(
                "view", found_view(self.found) | {"read": list(self._read), "unit": "mean activation" if known.rarity is None else "F1"}
            )
            self._show_outside()

    def relabel(self) -> None:
        """What was found, called as it is now."""
        self._filter()

    @traitlets.observe("feature")
    def _show_outside(self, change: Any = None) -> None:
        feature, codes = self.feature, self._codes
        shown = [row["feature"] for row in self.view.get("rows", [])]
        if codes is None or feature is None or feature in shown or not 0 <= feature < self._bench.sae.cfg.d_sae:
            self.set_trait("outside", {})
        else:
            label = visible(self._bench.labels.get(feature, ""))
            self.set_trait("outside", {"feature": feature, "label": label, "acts": _acts(codes, feature)})

    @traitlets.observe("positive", "negative", "share", "margin", "max_density", "top")
    def _write(self, change: Any = None) -> None:
        self.set_trait("code", self.query())

    def query(self) -> str:
        """The search as code."""
        sets = [
            f"    {name}=[\n" + "".join(f"        {prompt!r},\n" for prompt in getattr(self, name)) + "    ],\n"
            for name in ("positive", "negative")
        ]
        changed = {name: value for name, value in self._filters().items() if value != self.trait_defaults(name)}
        options = "".join(f"    {name}={value!r},\n" for name, value in changed.items())
        return f"bench.find(\n{sets[0]}{sets[1] if self.negative else ''}{options})"

    def _filters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("share", "margin", "max_density", "top")}

    def static_html(self) -> str:
        return found_html(self.found) if self.found is not None else f'<div style="{FAINT}">{repr(self)}: not searched yet</div>'

    def __repr__(self) -> str:
        found = "" if self.found is None else f", {self.found.n_passed:,} features"
        return f"Finder: {len(self.positive)} positive and {len(self.negative)} negative prompts{found}"


def found_view(found: Found) -> dict[str, Any]:
    """A Found as plain data for the page, with where on the prompts each feature is active."""
    codes = found.codes
    assert codes is not None, "a search by prompts keeps what it read"
    kinds = ["positive"] * found.n_positive + ["negative"] * (len(codes.prompts) - found.n_positive)
    rows = [
        {
            "feature": int(row["feature"]),
            "label": visible(str(row["label"])),
            **{name: _plain(row[name]) for name in MEASURES},
            "acts": _acts(codes, int(row["feature"])),
        }
        for row in found.table.to_dict("records")
    ]
    return {
        "removed": [{"filter": each.filter, "n_before": int(each.n_before), "n_removed": int(each.n_removed)} for each in found.removed],
        "n_passed": int(found.n_passed),
        "note": visible(found.note),
        "n_positive": found.n_positive,
        "prompts": [
            {"kind": kind, "tokens": [visible(token) for token in tokens[codes.first :]]}
            for kind, tokens in zip(kinds, codes.str_tokens, strict=True)
        ],
        "rows": rows,
    }


def _acts(codes: Codes, feature: int) -> list[list[list[float]]]:
    """For each prompt the tokens, start token left out, at which the feature is active: [place, activation]."""
    column = codes.acts[:, [feature]].tocoo()
    prompt = np.searchsorted(codes.bounds, column.row, side="right") - 1
    found: list[list[list[float]]] = [[] for _ in codes.prompts]
    for i, row, act in zip(prompt.tolist(), column.row.tolist(), column.data.tolist(), strict=True):
        found[i].append([int(row - codes.bounds[i]) - codes.first, round(act, 4)])
    return found


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
