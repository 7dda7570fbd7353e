"""What did tuning change? Two models that read the same texts, seen through one SAE.

    changes = diff(base, tuned, texts)
    changes.table    a feature a row, those that moved most first: moved (which share of what varies over texts is no more as it was),
                     mean activation and density in both, the difference with its interval, q (false discoveries under control)
    changes.dense    the same question without an SAE: the difference of means, and the features whose decoder rows lie along it
    changes.texts    the texts that are read most differently
    changes.effects  with effects=: the features whose effect on what follows a text changed most, measured (effects.py)
    changes.crosscoder    with crosscoder=: a dictionary of both models, and which of its features one of them has alone (crosscoder.py)

Everything is paired by text: both models read the same. The SAE was trained on one of them; what it explains of each stands beside, since
what tuning adds outside of its dictionary no feature shows. A tuned model differs a little everywhere, and with many texts each little is
told from nothing; so the order is by size, and q says only whether a mean changed. A control, tuned on the same texts without the behavior,
says what any tuning changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.features.changes.crosscoder import Crosscoder, crosscoder_words, read_crosscoder
from workbench.features.changes.effects import Answers, check_answers, effect_words, read_effects
from workbench.features.changes.fit import check_pair
from workbench.features.changes.paired import false_discovery, paired
from workbench.features.changes.reads import Both, read_both
from workbench.given import no_table
from workbench.model.chat import Chat, written
from workbench.model.start import reading_notes

FEWEST = 10
ERROR = 0.05  # share of false discoveries
SMALLEST = 0.01  # of what varies over texts: the plain twin of the atlas moves no feature by a tenth of that (docs/log.md)
N_ALONG = 10  # features beside the dense difference


@dataclass(frozen=True, repr=False, eq=False)
class Changes:
    """`table`: feature, label, moved with moved_low and moved_high, change with low and high, base and tuned (mean activation),
    density_base, density_tuned, density_low, density_high, q, has_changed. `dense`: feature, label, cosine of its decoder row with the
    difference of means where it writes. `texts`: text, distance (1: as far as activations lie from their mean)."""

    table: pd.DataFrame
    dense: pd.DataFrame
    texts: pd.DataFrame
    hook_name: str
    n_texts: int
    fvu: tuple[float, float]  # of the base's activations, of the tuned model's; of a transcoder of what it predicts
    mean_share: float  # of Σ ‖mean difference of a text‖², how much the difference of means is
    notes: tuple[str, ...] = ()
    crosscoder: pd.DataFrame | None = None  # read_crosscoder's table
    effects: pd.DataFrame | None = None  # read_effects's, with label
    predict: str = ""  # a transcoder's output: `dense` and the variance explained are of what stands there

    @property
    def changed(self) -> pd.DataFrame:
        """The rows of the table whose mean or density changed, told from nothing."""
        return self.table[self.table["has_changed"]]

    def top(self, n: int = 10) -> pd.DataFrame:
        """The n features that moved most, of those that moved by a hundredth of what varies over texts."""
        return self.table[self.table["moved"] >= SMALLEST].head(n)

    @property
    def verdict(self) -> str:
        """What changed most, and what that rests on."""
        first, n = self.top(len(self.table)), len(self.changed)
        named = [_named(row) for row in first.head(3).itertuples()]
        means = (
            f"the means of {n:,} of {len(self.table):,} active features changed, by however little (at most one in {1 / ERROR:.0f} falsely)"
        )
        if not named:
            return f"No feature moved by {SMALLEST:.0%} of what varies over texts; {means}."
        most = ", ".join(named[:-1]) + (" and " if len(named) > 1 else "") + named[-1]
        return f"{len(first):,} features moved by {SMALLEST:.0%} or more of what varies over texts, most of all {most}; {means}."

    @property
    def assumes(self) -> str:
        """What the table cannot say."""
        base, tuned = (1 - each for each in self.fvu)
        through = f"one transcoder, which explains, at {self.predict}," if self.predict else "one SAE, which explains"
        return (
            f"Seen at {self.hook_name}, on {self.n_texts:,} texts, through {through} {base:.1%} of the base's variance and "
            f"{tuned:.1%} of the tuned model's: what is new outside of its features does not show."
        )

    def _repr_html_(self) -> str:
        from widgets.html.batch import changes_html

        return changes_html(self)

    def said(self, n: int = 10) -> str:
        """As text: the verdict, the first n features, what is assumed."""
        from widgets.marks import signed

        shown = self.top(n)[["feature", "label", "moved", "base", "tuned", "change", "low", "high", "q"]]
        lines = shown.to_string(index=False, float_format=lambda x: signed(x, ".3g")).splitlines() if len(shown) else []
        beside = [] if self.crosscoder is None else [crosscoder_words(self.crosscoder)]
        if self.effects is not None:
            rows = self.effects.head(n).drop(columns="has_changed")
            beside += [effect_words(self.effects), *rows.to_string(index=False, float_format=lambda x: signed(x, ".3g")).splitlines()]
        return "\n".join([f"Changes: {self.verdict}", *(f"  {line}" for line in [*lines, *beside, self.assumes, *self.notes])])

    def __repr__(self) -> str:
        return self.said()


def diff(
    base: Any,
    tuned: Any,
    texts: Iterable[str] | Iterable[Chat],
    *,
    effects: Answers = False,
    crosscoder: Crosscoder | None = None,
    progress: bool = True,
) -> Changes:
    """What tuning changed at the base's SAE. base: a Workbench. tuned: another, of which the model counts, or a model. crosscoder: what
    `train_crosscoder` made of both, read on these texts beside.

    effects: whose effect changed on the log-probability of what follows each text: True: of the token that the tuned model finds likeliest
    there; " Paris": of that one, after every text; or one for each text. Some passes of both models for each of twenty features.
    Raises ValueError for models of other shapes or tokenizers, for two that are one, for fewer than ten texts (of effects twenty), and for
    an answer that is not one token.
    """
    model = check_pair(base, tuned)
    if isinstance(texts, str):
        raise ValueError("the texts are one string: expected several texts, ['…', '…']")
    read = [written(base.model, each) for each in no_table(texts, "texts")]
    if len(read) < FEWEST:
        raise ValueError(f"{len(read)} texts: a text is what is counted, give {FEWEST} or more, better hundreds")
    is_asked = effects is not False
    answers = check_answers(base.model, base.sae, effects, len(read)) if is_asked else None
    both = read_both(base.model, model, base.sae, read, progress)
    if not both.distance.any():
        raise ValueError(
            f"nothing differs at {base.sae.reads} on these texts: what tuning changed lies behind it, or in other texts; "
            "look through an SAE of a later layer"
        )
    changes = compared(both, base.sae, read, base.labels)
    changes = replace(changes, notes=(*reading_notes(base.model, base.sae), *changes.notes))
    if is_asked:
        found = read_effects((base.model, model), base.sae, read, answers, progress=progress)
        found.insert(1, "label", [base.labels.get(int(i), "") for i in found["feature"]])
        changes = replace(changes, effects=found)
    return changes if crosscoder is None else replace(changes, crosscoder=read_crosscoder(crosscoder, base, model, read, progress))


def compared(both: Both, sae: Any, texts: list[str], labels: Mapping[int, str]) -> Changes:
    """`diff` of texts that are read already."""
    table = _table(both, labels)
    mean = both.difference.mean(0)
    rows = sae.W_dec.float().cpu().numpy()
    cosine = rows @ mean / np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(mean), 1e-30)
    first = np.argsort(-np.abs(cosine), kind="stable")[:N_ALONG]
    dense = pd.DataFrame({"feature": first, "label": [labels.get(int(i), "") for i in first], "cosine": cosine[first]})
    far = np.argsort(-both.distance, kind="stable")
    far_texts = pd.DataFrame({"text": [str(texts[i]) for i in far], "distance": both.distance[far]})
    share = len(texts) * float(mean @ mean) / float((both.difference**2).sum())
    notes = () if len(texts) >= 100 else (f"{len(texts)} texts are few: a change in rare texts is missed",)
    predict = sae.writes if sae.writes != sae.reads else ""
    return Changes(table, dense, far_texts, sae.reads, len(texts), (both.base.fvu, both.tuned.fvu), share, notes, predict=predict)


def _table(both: Both, labels: Mapping[int, str]) -> pd.DataFrame:
    """Features that are active in either model, those that moved most first."""
    acts, density = (paired(getattr(both.base, kind), getattr(both.tuned, kind)) for kind in ("activation", "density"))
    active = np.flatnonzero((acts.base > 0) | (acts.tuned > 0))
    q = false_discovery(np.concatenate([acts.p[active], density.p[active]])).reshape(2, -1).min(0)
    columns = {
        "feature": active,
        "label": [labels.get(int(i), "") for i in active],
        **{name: getattr(acts, name)[active] for name in ("moved", "moved_low", "moved_high", "change", "low", "high", "base", "tuned")},
        **{f"density_{name}": getattr(density, name)[active] for name in ("base", "tuned", "low", "high")},
        "q": q,
        "has_changed": q <= ERROR,
    }
    return pd.DataFrame(columns).sort_values("moved", ascending=False, kind="stable").reset_index(drop=True)


def _named(row: Any) -> str:
    """A feature as the verdict has it."""
    label = f" ({row.label})" if row.label else ""
    way = ("up" if row.change > 0 else "down") if row.has_changed else "both ways"
    return f"{row.feature}{label} {way}"
