"""What the answer key makes measurable: does a feature mean a concept, does a ranking find the steps, does the model answer.

F1(feature, concept) over fresh texts: a text counts as predicted where the feature's largest activation in it exceeds a threshold (the
best one), and as true where the
concept is in play when it ends
steps found = share of a question's steps for which one of the ten features highest in an order has F1 ≥ 0.5 with that step's concept
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from tqdm.auto import tqdm

from workbench.activations.stream import harvest, padded
from workbench.atlas.questions import Question
from workbench.atlas.text import Text
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ranking import FeatureRanking, rank
from workbench.features.survey.completeness import best_f1, f1_by_threshold, texts_by_peak
from workbench.model.callers import alone
from workbench.sae.dictionary import Dictionary

FOUND = 0.5  # F1 from which a feature counts as the concept's
TOP = 0.9  # of a feature's maximum: where it is most active


@torch.no_grad()
def accuracy(model: Any, asked: Sequence[Question]) -> pd.DataFrame:
    """One row a question: is the answer the model's top next token? Columns prompt, answer, predicted, is_right, n_steps."""
    rows = []
    for first in range(0, len(asked), 64):
        some = asked[first : first + 64]
        tokens, is_text = padded(model, [each.prompt for each in some])
        with alone(model):
            predicted = model.forward(tokens)[torch.arange(len(some)), is_text.sum(1)].argmax(-1)
        rows += [
            (str(each.prompt), each.answer, word, word == each.answer, len(each.steps))
            for each, word in zip(some, model.tokenizer.batch_decode(predicted[:, None]), strict=True)
        ]
    return pd.DataFrame(rows, columns=["prompt", "answer", "predicted", "is_right", "n_steps"])


@torch.no_grad()
def peaks(model: Any, sae: Dictionary, texts: Sequence[str]) -> sparse.csc_matrix:
    """Each feature's largest activation in each text (n_texts, d_sae), the start token left out."""
    parts = []
    for first in tqdm(range(0, len(texts), 256), desc="reading texts", unit="batch", delay=2):
        tokens, is_text = padded(model, texts[first : first + 256])
        feature_acts = sae.encode(harvest(model, tokens, sae.reads).to(sae.W_dec.dtype)).float()
        parts.append(sparse.csr_matrix((feature_acts * is_text[..., None]).amax(1).cpu().numpy()))
    return sparse.csc_matrix(sparse.vstack(parts))


@dataclass(frozen=True)
class AnswerKey:
    """Which concepts are in play in which text, and which features fire there."""

    concepts: list[str]
    present: sparse.csc_matrix  # (n_texts, n_concepts)
    peaks: sparse.csc_matrix  # (n_texts, d_sae)

    @classmethod
    def read(cls, model: Any, sae: Dictionary, texts: Sequence[Text]) -> "AnswerKey":
        """From fresh texts: what is in play in each, and the largest activation of each of the dictionary's features."""
        concepts = sorted(frozenset().union(*(text.concepts for text in texts)))
        column = {concept: i for i, concept in enumerate(concepts)}
        where = [(row, column[concept]) for row, text in enumerate(texts) for concept in text.concepts]
        rows, columns = zip(*where, strict=True)
        present = sparse.csc_matrix((np.ones(len(where), dtype=bool), (rows, columns)), shape=(len(texts), len(concepts)))
        return cls(concepts, present, peaks(model, sae, texts))

    @cached_property
    def by_text(self) -> sparse.csr_matrix:
        """`present` by rows: which concepts each text has."""
        return self.present.tocsr()

    def f1(self, feature: int, of_texts: float = 0.0) -> np.ndarray:
        """Best F1 over thresholds of this feature with every concept (n_concepts); only over thresholds that keep at least the share
        `of_texts` of the texts in which it fires."""
        texts, ends = texts_by_peak(self.peaks, feature)
        concept, scores, k = f1_by_threshold(texts, ends, self.by_text, np.diff(self.present.indptr))
        best = np.zeros(len(self.concepts))
        is_allowed = k >= of_texts * len(texts)
        np.maximum.at(best, concept[is_allowed], scores[is_allowed])
        return best

    def at_top(self, feature: int) -> np.ndarray:
        """Of the texts in which this feature is at nine tenths of its maximum or above, the share with every concept (n_concepts)."""
        first, last = self.peaks.indptr[feature : feature + 2]
        peaks, texts = self.peaks.data[first:last], self.peaks.indices[first:last]
        top = self.by_text[texts[peaks >= TOP * peaks.max(initial=0.0)]]
        return np.asarray(top.sum(0)).ravel() / max(1, top.shape[0])

    def table(self, features: Sequence[int] | None = None, true_at_top: float = 0.0) -> pd.DataFrame:
        """What each feature means: feature, concept, f1, n_texts in which it fires; no concept where none is as true.

        A tenth of its texts at least have to speak for the concept: a rare name that happens to share the very largest activations does
        not make the meaning. (At a quarter the Lakers' feature, which fires weakly elsewhere too, had none.) true_at_top: share of the
        texts in which the feature is most active that have to have the concept.
        """
        rows = []
        features = range(self.peaks.shape[1]) if features is None else features
        for feature in tqdm(features, desc="scoring features", unit="feature", delay=2):
            n_texts = int(np.diff(self.peaks.indptr[feature : feature + 2])[0])
            scores = self.f1(feature, of_texts=0.1) * (self.at_top(feature) >= true_at_top) if n_texts else np.zeros(len(self.concepts))
            best = int(scores.argmax())
            rows.append((feature, self.concepts[best] if scores[best] else "", scores[best], n_texts))
        return pd.DataFrame(rows, columns=["feature", "concept", "f1", "n_texts"])

    def best_features(self) -> pd.DataFrame:
        """The best feature of each concept: concept, kind, feature, f1, n_texts in which it is in play."""
        best, f1 = best_f1(self.peaks, self.present)
        found = pd.DataFrame({"concept": self.concepts, "feature": best, "f1": f1, "n_texts": np.diff(self.present.indptr)})
        found.insert(1, "kind", [kind_of(concept) for concept in self.concepts])
        return found


def kind_of(concept: str) -> str:
    """ "team:Lakers" → "team"; "capital-of" → "relation"."""
    return "relation" if concept.endswith("-of") else concept.split(":")[0]


def steps_found(key: AnswerKey, question: Question, ranking: FeatureRanking, n: int = 10) -> pd.DataFrame:
    """For every step of a question and every order: is one of the n first features (summed over positions) the step's? Columns step,
    kind, order, f1, is_found."""
    column = {concept: i for i, concept in enumerate(key.concepts)}
    features = ranking.by_feature()
    rows = []
    for order in ("effect", "attribution", "activation"):
        top = features.sort_values(order, ascending=False)["feature"].head(n)
        scores = np.stack([key.f1(int(feature)) for feature in top])
        for step in question.steps:
            f1 = scores[:, column[step]].max() if step in column else 0.0
            rows.append((step, kind_of(step), order, f1, f1 >= FOUND))
    return pd.DataFrame(rows, columns=["step", "kind", "order", "f1", "is_found"])


def score_rankings(bench: Any, key: AnswerKey, asked: Sequence[Question]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank every question with every effect measured. Returns one row a question (agreement figures) and one row a (question, step,
    order)."""
    agreements, steps = [], []
    for number, question in enumerate(tqdm(asked, desc="ranking questions", unit="question")):
        ranking = rank(bench, question.prompt, logit_diff(question.answer, question.baseline), progress=False)
        agreement = ranking.agreement()
        agreements.append({"question": number, "prompt": str(question.prompt), **vars(agreement)})
        steps.append(steps_found(key, question, ranking).assign(question=number))
    return pd.DataFrame(agreements), pd.concat(steps, ignore_index=True)
