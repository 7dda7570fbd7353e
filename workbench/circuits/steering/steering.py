"""Generate while features are clamped: what a feature does, in the model's own words.

    x' = x + (strength · max_act − feature_acts) · W_dec        at every position, generated ones included

Scaling Monosemanticity, "Influence on behavior". Only the difference is added, so the SAE's error stays. The unsteered text and all
strengths are one batch; a steering vector can be set beside them.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.activations.stream import harvest
from workbench.circuits.evidence.reference import max_acts, steered_stream, usual_norm
from workbench.circuits.intervene import Edit, check_features, editing
from workbench.circuits.steering.continuations import Continuation, Setting, Steering
from workbench.circuits.steering.generation import Decoding, Generated, Reading, generate, prompt_tokens, read
from workbench.circuits.steering.vectors import SteeringVector, largest_scale
from workbench.model.cache import kv_cache
from workbench.model.start import reading_notes
from workbench.model.tokens import answer_token, distinct_str_tokens, is_start_token, to_str_tokens
from workbench.shapes import FeatureActs, Tokens

N_NEXT = 50  # next tokens that are kept of each continuation
Strengths = Mapping[int, float | Sequence[float]]


def steer(
    bench: Any,
    prompt: str,
    features: Strengths,
    decoding: Decoding = Decoding(),  # noqa: B008 frozen
    vector: SteeringVector | None = None,
    tokens: Sequence[str] = (),
    max_act: Mapping[int, float] | None = None,
) -> Steering:
    """Continue `prompt` unsteered and with features clamped to strength × max_act at every position.

    features: {feature: strength}; a list of strengths gives a continuation each, several lists go together. vector: a steering vector
    beside them; an open scale is searched, the largest at which its texts are as likely to the unsteered model (median perplexity) as the
    least likely of the others. tokens: whose probability to follow. max_act: {feature: activation}, where neither index nor example texts
    tell it. Raises ValueError for features, strengths, tokens and lengths that cannot be.
    """
    if not isinstance(features, Mapping):
        raise ValueError(f"{features!r} says no strengths: expected {{feature: strength}}, such as {{1234: 10.0}}")
    model, sae, chosen = bench.model, bench.sae, list(features)
    if not chosen and vector is None:
        raise ValueError("nothing to steer by: expected {feature: strength}, such as {1234: 10.0}, or a vector")
    check_features(sae, chosen)
    if isinstance(tokens, str):
        raise ValueError(f"tokens={tokens!r} is one string: expected a list of tokens to follow, [{tokens!r}]")
    settings = [Setting("unsteered"), *_settings(features)]
    followed = {text: answer_token(model, text) for text in tokens}
    runs = _Runs(bench, prompt_tokens(model, prompt, decoding), decoding, chosen, followed)
    most = max_acts(bench, chosen, max_act)
    values = [[setting.strengths.get(f, torch.nan) * most[f] for f in chosen] for setting in settings]
    rows = torch.tensor(values, dtype=sae.W_dec.dtype, device=sae.W_dec.device).repeat_interleave(decoding.n_samples, dim=0)
    for setting, row in zip(settings, rows[:: decoding.n_samples], strict=True):
        if row.isinf().any():
            raise ValueError(f"{setting.name} is more than {row.dtype} holds: expected strengths from about −10 to 10")
    continuations = runs.run(editing(model, sae, clamping_rows(chosen, rows)) if chosen else nullcontext(), settings)
    if vector is not None:
        scale = _fitted(runs, vector, continuations) if vector.scale is None else vector.scale
        continuations += runs.run(vector.adding(model, scale), [Setting("vector", scale)])
    return Steering(
        prompt=prompt,
        continuations=continuations,
        max_act=most,
        x_norm=usual_norm(bench) or _norm(model, steered_stream(model, sae.writes), runs.prompt_ids),
        row_norms={f: float(sae.W_dec[f].norm()) for f in chosen},
        labels={f: bench.labels[f] for f in chosen if f in bench.labels},
        tokens=tuple(tokens),
        hook_name=sae.writes,
        model_name=bench.name or str(model.cfg.model_name),
        sae_name=bench.sae_name,
        of_sae=reading_notes(model, sae) if chosen else (),
        why_no_cache=kv_cache(model).why_not,
    )


def clamping_rows(features: Sequence[int], values: Float[Tensor, "n_rows n_features"]) -> Edit:
    """An edit that clamps each row of a batch to its own values; NaN leaves a feature as it is."""
    features = list(features)

    def edit(feature_acts: FeatureActs) -> FeatureActs:
        edited, own = feature_acts.clone(), feature_acts[..., features]
        edited[..., features] = torch.where(values.isnan()[:, None], own, values[:, None])
        return edited

    return edit


class _Runs:
    """Continues one prompt under one intervention after another."""

    def __init__(self, bench: Any, prompt_ids: Tokens, decoding: Decoding, features: Sequence[int], followed: Mapping[str, int]):
        self.bench, self.prompt_ids, self.decoding, self.features, self.followed = bench, prompt_ids, decoding, features, followed

    def run(self, intervention: AbstractContextManager, settings: Sequence[Setting]) -> list[Continuation]:
        """n_samples continuations of each setting; the intervention knows the batch's rows."""
        n_samples = self.decoding.n_samples
        rows = self.prompt_ids.expand(len(settings) * n_samples, -1)
        with intervention:
            written = generate(self.bench.model, rows, self.decoding, self.decoding.seeds * len(settings))
        if len(broken := written.next_logits.isnan().any(1).nonzero()):
            setting = settings[int(broken[0]) // n_samples]
            if setting.kind == "unsteered":
                raise ValueError("the model's own logits are NaN on this prompt: are its weights whole, and is its dtype wide enough?")
            raise ValueError(
                f"{setting.name} is more than the model can compute with, its logits are NaN: expected strengths from about −10 to 10"
            )
        texts = torch.cat([rows, written.tokens], dim=1)
        reading = read(self.bench.model, self.bench.sae, texts, rows.shape[1], self.features)
        return [self._row(written, reading, row, settings[row // n_samples]) for row in range(len(rows))]

    def _row(self, written: Generated, reading: Reading, row: int, setting: Setting) -> Continuation:
        model, ids = self.bench.model, written.tokens[row][written.is_text[row]]
        probabilities = written.next_logits[row].float().softmax(-1)
        top = probabilities.topk(min(N_NEXT, len(probabilities)))
        others = [token for token in top.indices.tolist() if token not in self.followed.values()]
        next_tokens = dict(zip(distinct_str_tokens(model, others, list(self.followed)), probabilities[others].tolist(), strict=True))
        return Continuation(
            setting=setting,
            sample=row % self.decoding.n_samples,
            text=model.tokenizer.decode(ids, clean_up_tokenization_spaces=False),
            str_tokens=to_str_tokens(model, ids) if len(ids) else [],
            log_probs=reading.log_probs[row, : len(ids)].tolist(),
            activations=reading.feature_acts[row, : len(ids)].sum(-1).tolist() if self.features else [],
            next_tokens=next_tokens | {text: float(probabilities[token]) for text, token in self.followed.items()},
        )


@torch.no_grad()
def _norm(model: Any, hook_name: str, prompt_ids: Tokens) -> float:
    """The median norm of the activations that are steered; the start token's is many times larger in most models."""
    x = harvest(model, prompt_ids, hook_name)[~is_start_token(model, prompt_ids)]
    return float(x.float().norm(dim=-1).median()) if len(x) else float("inf")


def _settings(features: Strengths) -> list[Setting]:
    """One for each strength of a list; one in all where there is no list."""
    columns = {feature: np.atleast_1d(np.asarray(strength)) for feature, strength in features.items()}
    for feature, column in columns.items():
        if column.ndim > 1 or column.dtype.kind not in "iuf" or not np.isfinite(column).all():
            raise ValueError(f"feature {feature} cannot be steered at {features[feature]!r}: expected numbers, usually from −10 to 10")
    lengths = {len(column) for column in columns.values()} - {1}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"lists of strengths go together: expected one length, at least 1, got {sorted(lengths)}")
    if not columns:
        return []
    n = max(lengths, default=1)
    varied = max(columns, key=lambda feature: len(columns[feature]))  # the first that is longest
    full = {feature: np.broadcast_to(column, n).tolist() for feature, column in columns.items()}
    return [Setting("features", full[varied][i], {feature: column[i] for feature, column in full.items()}) for i in range(n)]


def _fitted(runs: _Runs, vector: SteeringVector, others: Sequence[Continuation]) -> float:
    """The largest scale at which the vector's texts are no less likely than the least likely setting of the others."""

    def perplexity(continuations: Sequence[Continuation]) -> float:
        found = [each.perplexity for each in continuations if np.isfinite(each.perplexity)]
        return float(np.median(found)) if found else np.inf

    settings = {each.setting.name for each in others}
    limit = max(perplexity([each for each in others if each.setting.name == name]) for name in settings)
    model = runs.bench.model
    return largest_scale(lambda scale: perplexity(runs.run(vector.adding(model, scale), [Setting("vector", scale)])) <= limit)
