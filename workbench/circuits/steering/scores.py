"""Two scores of each feature: how well it reads what it is called, and how much clamping it writes that.

    scores = score_features(bench, texts, atlas.Text.concepts_at)      with an answer key: of every feature that is labelled with a concept
    scores = score_features(bench)                                     without: by the tokens that each feature's direction promotes
    scores.table           feature, label, input, output, …            scores.apart(), scores.correlation(), scores.plot()
    index.save_scores(scores.scores, scores.basis)                     pages, tables and searches show them from then on

A label says what a feature reads. What it does is another question: of features that read a thing well many write nothing of it (Arad,
Mueller & Belinkov 2025, arXiv 2505.20063, "SAEs are good for steering, if you select the right features"). What both are:
features/survey/input_scores.py and output_scores.py. For features of transcoders, too: read in one place, clamped in the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from tqdm.auto import tqdm

from workbench.circuits.intervene import check_features
from workbench.circuits.steering.generation import Decoding
from workbench.circuits.steering.output_scores import Told, by_tokens, clamped, doses, unsteered
from workbench.features.index.building.logits import is_in_stream, token_logits
from workbench.features.index.parts import FeatureScore
from workbench.features.search.parted import gaps
from workbench.features.survey import input_scores
from workbench.features.survey.activity import Activity, Key, read_activity
from workbench.model.hooks import check_dictionary

PROMPTS = ("The", "In")  # frequent first words that choose no concept; the first is the one of the tokens' score
N_PROMOTED = 20  # tokens of a direction, as in the paper
N_NEW, N_SAMPLES, N_PLAIN = 10, 2, 64  # tokens of a continuation; continuations of a prompt, clamped and not
BY_KEY = "by the answer key: average precision over texts; share of the concept when clamped"
BY_TOKENS = (
    f"by the {N_PROMOTED} tokens that each direction promotes, in place of what the label means: share of top texts that peak at one of "
    "them; their rank × probability when amplified"
)
HIGH = 0.5  # of both scores by the key: half of the way from nothing to perfect
COLUMNS = ("feature", "label", "input", "output", "output_next", "output_text", "unsteered", "input_tokens", "output_tokens")


@dataclass(frozen=True, repr=False, eq=False)
class FeatureScores:
    """`table`: feature, label, input, output; output_next, output_text (of the next token alone, and of what was written), unsteered
    (share of the concept where nothing is clamped), NaN without a key; input_tokens, output_tokens: the paper's own two, NaN outside of
    the residual stream."""

    table: pd.DataFrame
    basis: str
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> dict[int, FeatureScore]:
        """As an index keeps them."""
        rows = zip(self.table["feature"], self.table["input"], self.table["output"], strict=True)
        return {int(feature): FeatureScore(_or_none(reads), _or_none(writes)) for feature, reads, writes in rows}

    def by(self, score: str) -> pd.DataFrame:
        """feature, score, label, the highest first: what `FeatureMap.show_scores` colors a map by."""
        if score not in self.table.columns[2:]:
            raise ValueError(f"score={score!r}: expected one of {', '.join(self.table.columns[2:])}")
        known = self.table[self.table[score].notna()]
        return known[["feature", score, "label"]].rename(columns={score: "score"}).sort_values("score", ascending=False, kind="stable")

    def apart(self, n: int = 10) -> pd.DataFrame:
        """The n features that read much better than they write, then the n that write much better than they read. gap: by how much the
        share of features that it is ahead of differs between the two, −1 to 1."""
        known = self._known
        ordered = known.assign(gap=gaps(known["input"], known["output"])).sort_values("gap", ascending=False, kind="stable")
        reads, writes = ordered[ordered["gap"] > 0].head(n), ordered[ordered["gap"] < 0].tail(n)[::-1]
        parts = [some.assign(does=does) for some, does in ((reads, "reads it"), (writes, "writes it"))]
        return pd.concat(parts)[["does", "feature", "label", "input", "output", "gap"]].reset_index(drop=True)

    def correlation(self) -> float:
        """Spearman's, of input and output; NaN for fewer than three features."""
        known = self._known
        if len(known) < 3 or known["input"].nunique() < 2 or known["output"].nunique() < 2:
            return float("nan")
        return float(stats.spearmanr(known["input"], known["output"]).statistic)

    def both_high(self, least: float = HIGH) -> float:
        """Share of the features with `least` or more of both."""
        return float(((self._known["input"] >= least) & (self._known["output"] >= least)).mean())

    @property
    def _known(self) -> pd.DataFrame:
        return self.table[self.table["input"].notna() & self.table["output"].notna()]

    @property
    def verdict(self) -> str:
        """How far the two go together."""
        from widgets.marks import signed

        known, r = self._known, self.correlation()
        if not len(known):
            return "No feature has both scores."
        high = [float((known[name] >= HIGH).mean()) for name in ("input", "output")]
        together = "too few to correlate" if np.isnan(r) else f"rank correlation {signed(r, '.2f')}"
        shares = f"{high[0]:.0%} read at {HIGH:g} or more, {high[1]:.0%} write, {self.both_high():.0%} do both"
        return f"{len(known):,} features have both scores: {together}; {shares}."

    def plot(self) -> Any:
        """Output against input, a point a feature."""
        from widgets.figures.features import plot_scores

        return plot_scores(self._known)

    def _repr_html_(self) -> str:
        from widgets.html.survey import scores_html

        return scores_html(self)

    def said(self, n: int = 5) -> str:
        """As text: how far the two go together, and the n features of each kind in which they part."""
        from widgets.marks import signed

        lines = [f"Scores of {len(self.table):,} features, {self.basis}", f"  {self.verdict}", *(f"  {note}" for note in self.notes)]
        shown = self.apart(n).to_string(index=False, float_format=lambda x: signed(x, ".2f")) if len(self._known) else ""
        return "\n".join([*lines, *(f"  {line}" for line in shown.splitlines())])

    def __repr__(self) -> str:
        return self.said()


def score_features(
    bench: Any,
    texts: Sequence[str] = (),
    key: Key | None = None,
    *,
    features: Sequence[int] | None = None,
    prompts: Sequence[str] = PROMPTS,
    seed: int = 0,
    progress: bool = True,
) -> FeatureScores:
    """Both scores of each feature. texts, key: texts that labels were not made from, and what is in play at each of their tokens (for
    the atlas: atlas.texts(seed, n), atlas.Text.concepts_at); concepts that no label names are left out. Without a key what each direction
    promotes stands in for what its label means, of every feature that is ever active. features: these only. prompts: what is continued.

    Raises ValueError where there is a key and no text or the reverse, where no label is a concept of the key, and without a key for
    features that do not write into the residual stream, of which nothing says what they mean.
    """
    check_dictionary(bench.model, bench.sae)
    if bool(len(texts)) != (key is not None) or isinstance(texts, str):
        raise ValueError("texts and key belong together: several texts, and a function that says which concepts are in play at each token")
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts is {prompts!r}: expected a list of one short prompt or more, such as {list(PROMPTS)}")
    if features is not None:
        check_features(bench.sae, features)
    if key is None:
        return _by_tokens(bench, features, prompts[0], progress)
    activity = read_activity(bench.model, {"": bench.sae}, texts, key, progress)[""]
    return _by_key(bench, activity, features, prompts, Decoding(N_NEW, 1.0, N_SAMPLES, seed, progress=False), progress)


def _by_key(
    bench: Any, activity: Activity, features: Sequence[int] | None, prompts: Sequence[str], decoding: Decoding, progress: bool
) -> FeatureScores:
    labels = _labels(bench)
    wanted = sorted(labels if features is None else set(features))
    concepts = {f: labels[f] for f in wanted if labels.get(f) in activity.corpus.column}
    if not concepts:
        some = ", ".join(repr(each)[:40] for each in activity.corpus.concepts[:3]) or "none"
        raise ValueError(f"no label of these {len(wanted):,} features is a concept of the key (which has {some}, …): nothing to score")
    values = doses(bench, list(concepts))
    if not values:
        raise ValueError(
            f"none of {len(concepts):,} features with a concept of the key ever fired on the reference texts: nothing to clamp"
        )
    concepts = {f: concept for f, concept in concepts.items() if f in values}
    told = Told.of(activity.corpus, bench.model.unembed.W_U.shape[1])
    plain = unsteered(bench, told, sorted(set(concepts.values())), prompts, Decoding(N_NEW, 1.0, N_PLAIN, decoding.seed, progress=False))
    written = clamped(bench, concepts, values, told, prompts, decoding, progress)
    reads, tokens, rows = input_scores.by_concept(activity, concepts), _promoted(bench, list(concepts)), []
    token_reads = input_scores.by_tokens(activity, tokens)
    token_writes = by_tokens(bench, tokens, prompts[0], progress) if tokens else {}
    for feature, concept in concepts.items():
        base, natural = plain[concept], told.natural[told.column[concept]]
        now = written[feature]
        pairs = (now.share, base.share), (now.next, base.next), (now.text, base.text)
        lifts = [(share - was) / (natural - was) if natural > was else np.nan for share, was in pairs]
        rows.append(
            (feature, concept, reads[feature], *lifts, base.share, token_reads.get(feature, np.nan), token_writes.get(feature, np.nan))
        )
    n_left = len(wanted) - len(concepts)
    left = (f"{n_left:,} features are not scored: no label of theirs is a concept of the key, or they never fired",) if n_left else ()
    return FeatureScores(pd.DataFrame(rows, columns=list(COLUMNS)), BY_KEY, left)


def _by_tokens(bench: Any, features: Sequence[int] | None, prompt: str, progress: bool) -> FeatureScores:
    if not is_in_stream(bench.sae.writes):
        raise ValueError(
            f"features at {bench.sae.writes} promote no tokens, since it is not in the residual stream, and without an answer key nothing "
            "says what they mean: give texts and key"
        )
    if bench.index is None:
        raise ValueError("which texts are a feature's top ones is not known here (no index): give index=build_index(…), or texts and key")
    table, labels = bench.index.table.set_index("feature"), _labels(bench)
    wanted = [f for f in (table.index if features is None else features) if table.loc[f, "n_active"] > 0]
    tokens, rows = _promoted(bench, wanted), []
    words = dict(enumerate(bench.index.sql("SELECT str_token FROM vocabulary ORDER BY token")["str_token"]))
    writes = by_tokens(bench, tokens, prompt, progress)
    if writes and all(map(np.isnan, writes.values())):
        raise ValueError(
            f"no feature is active at the end of {prompt!r}, so how far to push is not known: give prompts=[…], another one first"
        )
    for feature in tqdm(wanted, desc="reading examples", unit="feature", disable=not progress, delay=2):
        peaks = [each.str_tokens[each.peak] for each in bench.index.examples(feature, input_scores.N_TOP)]
        reads = input_scores.share_promoted(peaks, [words.get(i, "") for i in tokens[feature]])
        rows.append((feature, labels.get(feature, ""), reads, writes[feature], *[np.nan] * 3, reads, writes[feature]))
    few = sum(np.isnan(row[2]) for row in rows)
    note = (f"{few:,} features have no input score: the index shows fewer than {input_scores.FEWEST_TEXTS} texts of theirs",) if few else ()
    return FeatureScores(pd.DataFrame(rows, columns=list(COLUMNS)), BY_TOKENS, note)


def _labels(bench: Any) -> dict[int, str]:
    """Without their scores; a person's own over the index's."""
    if bench.index is not None:
        return {feature: label.text for feature, label in bench.index.labels().items()}
    return {int(feature): str(label) for feature, label in bench.labels.items()}


@torch.no_grad()
def _promoted(bench: Any, features: Sequence[int]) -> dict[int, list[int]]:
    """The tokens that each direction promotes most; none outside of the residual stream."""
    if not is_in_stream(bench.sae.writes) or not len(features):
        return {}
    found = token_logits(bench.model, bench.sae.W_dec[list(features)], N_PROMOTED).promoted
    return dict(zip(features, found.tolist(), strict=True))


def _or_none(score: float) -> float | None:
    return None if np.isnan(score) else float(score)
