"""Where the heads look that carry the selected feature's effect to the answer: CircuitsVis' attention patterns, and a table beside them.

    pane = AttentionPane(bench, prompt="…", answer=" Sacramento", baseline=" Albany", feature=574)
    pane.run().wait(); pane.heads                           the HeadEffects (workbench/circuits/depth/heads.py says what is measured)

CircuitsVis is loaded from the installed package, by the first such view of a page, never from the network. It is given tokens with
whitespace and control characters made visible, which it enters as text.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import circuitsvis
import numpy as np
import traitlets

from widgets.html.heads import heads_html
from widgets.marks import FAINT, visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import STATIC, WorkingPane, module, style
from workbench.circuits.depth.heads import HeadEffects, head_effects
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import last_logits
from workbench.model.tokens import to_str_tokens, to_tokens

N_HEADS = 8  # shown, of largest |moved|
MOST_TOKENS = 160  # of a pattern that CircuitsVis draws: a cell each


class AttentionPane(WorkingPane):
    """Which heads carry a feature at a prompt's token, and their attention patterns. Takes a bench."""

    _esm = module("shared/copy", "attention/attention")
    _css = style("attention/attention")
    _offline = (STATIC / "attention/attention_offline.js",)
    kept = ("feature", "prompt", "answer", "baseline", "pos")
    maker = "AttentionPane(bench)"
    actions = ("run", "cancel", "send_bundle")

    prompt = traitlets.Unicode("").tag(sync=True)
    answer = traitlets.Unicode("", help="empty: the model's likeliest next token").tag(sync=True)
    baseline = traitlets.Unicode("", help="empty: the mean logit").tag(sync=True)
    pos = traitlets.Int(None, allow_none=True, help="None: where the feature's effect is largest, but for the last token").tag(sync=True)

    view = traitlets.Dict(read_only=True).tag(sync=True)
    patterns = traitlets.Bytes(read_only=True, help="float32: head, from position, to position").tag(sync=True)
    bundle = traitlets.Unicode(read_only=True, help="CircuitsVis itself, sent to the first view of a page that asks").tag(sync=True)

    def __init__(self, bench: Any, **traits: Any):
        self._bench = bench
        self.heads: HeadEffects | None = None
        self._begun: dict[str, Any] = {}
        super().__init__(bench.model, **traits)

    def measure(self) -> None:
        """Measures what is selected, unless it is what was measured, or is being measured."""
        if self.feature is None or not self.prompt or self._chosen == self.view.get("chosen"):
            return
        if self.progress.get("stage") not in ("waiting", "running") or self._chosen != self._begun:
            self.run()

    @property
    def _chosen(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("feature", "prompt", "answer", "baseline", "pos")}

    def work(self, job: Job) -> None:
        feature, prompt, chosen = self.feature, self.prompt, self._chosen
        self._begun = chosen
        if feature is None:
            raise ValueError("no feature is selected yet")
        if not prompt:
            raise ValueError("there is no prompt yet")
        answer = self.answer or self._likeliest(prompt)
        heads = head_effects(self._bench, prompt, logit_diff(answer, self.baseline or None), feature, self.pos, cancel=job.event)
        with SETTING:
            if job.is_cancelled:
                return
            self.heads = heads
            shown = heads.patterns[:N_HEADS] if len(heads.str_tokens) <= MOST_TOKENS else heads.patterns[:0]
            self.set_trait("patterns", shown.astype(np.float32).tobytes())
            self.set_trait("view", heads_view(heads) | {"chosen": chosen, "answer": visible(answer)})

    def send_bundle(self) -> None:
        """CircuitsVis' script, for a page that asks for it."""
        self.set_trait("bundle", bundle_text())

    def offline(self) -> dict[str, Any]:
        """What a saved page needs beside the traits."""
        return {"bundle": bundle_text()} if self.patterns else {}

    def _likeliest(self, prompt: str) -> str:
        model = self._bench.model
        return to_str_tokens(model, last_logits(model, to_tokens(model, prompt)).argmax(-1))[0]

    def static_html(self) -> str:
        return heads_html(self.heads, N_HEADS) if self.heads is not None else f'<div style="{FAINT}">{repr(self)}: not measured yet</div>'

    def __repr__(self) -> str:
        return f"AttentionPane: {'no feature' if self.feature is None else f'feature {self.feature}'}"


@cache
def bundle_text() -> str:
    """CircuitsVis as the wheel brings it: a script that defines one name, CircuitsVis."""
    return (files(circuitsvis) / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")


def heads_view(heads: HeadEffects) -> dict[str, Any]:
    """HeadEffects as plain data for the page."""
    rows = heads.table.head(N_HEADS)
    reads = heads.patterns[:N_HEADS, -1]
    return {
        "feature": heads.feature,
        "label": visible(heads.label),
        "pos": heads.pos,
        "effect": heads.effect,
        "tokens": [visible(token) for token in heads.str_tokens],
        "n_heads": len(heads.table),
        "total": float(heads.table["moved"].sum()),
        "heads": [
            {
                "name": f"{row.layer}.{row.head}",
                "moved": float(row.moved),
                "attention": float(row.attention),
                "reads": read.round(4).tolist(),
            }
            for row, read in zip(rows.itertuples(), reads, strict=True)
        ],
    }
