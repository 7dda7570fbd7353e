"""What a feature usually does: its largest and its mean activation over reference texts, the start token left out.

From the bench's index where it has one, else from its example texts; where there is neither, the caller has to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.activations.stream import harvest, padded
from workbench.features.index.layout import bin_width
from workbench.features.search.codes import encode
from workbench.model.start import start_token
from workbench.model.tokens import is_start_token, to_tokens
from workbench.sae.dictionary import Dictionary
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_NORM_TEXTS = 16  # enough for a median over hundreds of tokens
N_TEXTS = 500  # enough for a mean; a maximum is looked up in all the bench has


def max_acts(bench: Any, features: Sequence[int], given: Mapping[int, float] | None = None) -> dict[int, float]:
    """The largest activation of each feature: as given, else from the index, else over the example texts.

    Raises ValueError where nobody knows it, where the feature never fired, and for one given that is no activation.
    """
    found = {feature: (given or {}).get(feature) for feature in features}
    for feature, act in found.items():
        if act is not None and not (isinstance(act, Real) and 0 < act < float("inf")):
            raise ValueError(f"max_act={{{feature}: {act!r}}}: expected its largest activation, a number above 0")
    return {feature: _max_act(bench, feature) if act is None else float(act) for feature, act in found.items()}


def largest_known(bench: Any, feature: int) -> float:
    """The largest activation in the index, else in the example texts; 0 for a feature that never fired there. Raises ValueError where the
    bench has neither."""
    if bench.index is not None:
        table = bench.index.table
        return float(table.loc[table["feature"] == feature, "max_act"].max())
    if bench.examples is not None:
        return max((max(example.activations) for example in bench.examples(feature)), default=0.0)
    raise ValueError(f"how active feature {feature} gets is not known here (no index, no example texts): give max_act={{{feature}: …}}")


def _max_act(bench: Any, feature: int) -> float:
    found = largest_known(bench, feature)
    if not found > 0:
        raise ValueError(f"feature {feature} never fired on the reference texts: give max_act={{{feature}: …}}")
    return found


def largest_on(bench: Any, prompt: str, features: Iterable[int]) -> dict[int, float]:
    """The largest activation on the prompt of those features of which reference texts tell none, for `max_acts` to be given. Raises
    ValueError where there is none on the prompt either."""
    unknown = [feature for feature in features if not _is_known(bench, feature)]
    codes = encode(bench.model, bench.sae, [prompt]) if unknown else None
    found = {feature: max(codes.activations(0, feature)) for feature in unknown if codes}
    if silent := [feature for feature, most in found.items() if not most > 0]:
        raise ValueError(
            f"no text here tells how active feature {silent[0]} gets: it is active nowhere on this prompt. "
            "Steer one on which it is, or load the bench with an index"
        )
    return found


def _is_known(bench: Any, feature: int) -> bool:
    try:
        return _max_act(bench, feature) > 0
    except ValueError:
        return False


def has_means(bench: Any) -> bool:
    """Can `mean_acts` be told?"""
    return bench.index is not None or bool(getattr(bench.examples, "texts", None))


def mean_acts(bench: Any) -> Float[Tensor, "d_sae"]:
    """Each feature's mean activation over the tokens of the reference texts, silent tokens included.

    From the index's histograms, which know an activation to half a bin, at most a 64th of the largest; without an index, read from the
    example texts. Raises ValueError where there is neither.
    """
    if not has_means(bench):
        raise ValueError("this bench has neither an index nor example texts to measure on: give the values, or a bench with one of them")
    if bench.index is None:
        return read_mean_acts(bench.model, bench.sae, bench.examples.texts)
    query = "SELECT max_act, histogram FROM features WHERE sae = ? ORDER BY feature"
    found = bench.index.sql(query, bench.index.sae_name)
    counts, width = np.stack(found["histogram"].to_list()), bin_width(found["max_act"].to_numpy())
    total = (counts * (np.arange(counts.shape[1]) + 0.5)).sum(1) * width
    return torch.from_numpy(total / bench.index.manifest["n_tokens"]).to(bench.sae.W_dec)


@torch.no_grad()
def read_mean_acts(model: "TransformerBridge", sae: Dictionary, texts: Sequence[str]) -> Float[Tensor, "d_sae"]:
    """The same, exact, over the tokens of up to N_TEXTS texts."""
    total, n_tokens = torch.zeros(sae.cfg.d_sae, dtype=torch.float64, device=sae.W_dec.device), 0
    for first in range(0, min(len(texts), N_TEXTS), 64):
        tokens, is_text = padded(model, texts[first : min(first + 64, N_TEXTS)])
        feature_acts = sae.encode(harvest(model, tokens, sae.reads)[is_text].to(sae.W_dec.dtype))
        total += feature_acts.sum(0, dtype=torch.float64)
        n_tokens += len(feature_acts)
    return (total / n_tokens).to(sae.W_dec.dtype)


def steered_stream(model: Any, hook_name: str) -> str:
    """Where what is steered at a hook point weighs: what an MLP or attention writes is added to the residual stream, whose norm it is that
    texts survive or not."""
    block, _, end = hook_name.rpartition(".")
    after = f"{block.removesuffix('.mlp').removesuffix('.attn')}.hook_resid_post"
    is_added = end in ("hook_mlp_out", "hook_attn_out") or hook_name.endswith((".mlp.hook_out", ".attn.hook_out"))
    return after if is_added and after in model.hook_dict else hook_name


_NORMS: WeakKeyDictionary[Any, dict[tuple[str, bytes], float]] = WeakKeyDictionary()  # model → hook point and texts → norm


def usual_norm(bench: Any) -> float | None:
    """The median norm of the activation that is steered (`steered_stream`) over reference texts, start tokens left out; a short prompt's
    own says little. Read once for a model and these texts. None where there is no text to read."""
    tokens, hook_name = _reference_tokens(bench), steered_stream(bench.model, bench.sae.writes)
    if not tokens:
        return None
    known, key = _NORMS.setdefault(bench.model, {}), (hook_name, b"|".join(each.cpu().numpy().tobytes() for each in tokens))
    if key not in known:
        known[key] = float(torch.cat([_norms(bench.model, each, hook_name) for each in tokens]).median())
    return known[key]


@torch.no_grad()
def _norms(model: "TransformerBridge", tokens: Tokens, hook_name: str) -> Float[Tensor, "n"]:
    x = harvest(model, tokens, hook_name).flatten(2)[~is_start_token(model, tokens)]
    return x.float().norm(dim=-1).cpu()


def _reference_tokens(bench: Any) -> list[Tokens]:
    """A few texts, each a row with its start token."""
    if bench.index is not None:
        rows = bench.index.sql(f"SELECT tokens FROM texts WHERE len(tokens) > 1 ORDER BY row LIMIT {N_NORM_TEXTS}")["tokens"]
        ids = start_token(bench.model).ids
        start, room = torch.tensor([ids], dtype=torch.long), bench.model.cfg.n_ctx - len(ids)
        found = [torch.tensor(np.asarray(row), dtype=torch.long)[None] for row in rows]
        return [torch.cat([start, row[:, :room]], dim=1).to(bench.model.cfg.device) for row in found]
    texts = getattr(bench.examples, "texts", None) or []
    return [to_tokens(bench.model, text)[:, : bench.model.cfg.n_ctx] for text in list(texts)[:N_NORM_TEXTS]]
