"""Can two models be compared, feature by feature? Widths, tokens and weights, before anything is computed."""

from typing import TYPE_CHECKING, Any

import torch

from workbench.model.hooks import check_dictionary
from workbench.model.start import start_token

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SHAPES = ("n_layers", "d_model", "d_vocab")


def check_pair(base: Any, tuned: Any) -> "TransformerBridge":
    """The tuned model. Raises ValueError unless it is one that the base's SAE can read, with the base's tokens, and not the base itself."""
    from transformer_lens.model_bridge import TransformerBridge

    for name, each in (("base", base), ("tuned", tuned)):
        if not (hasattr(each, "model") and hasattr(each, "sae")) and not (name == "tuned" and isinstance(each, TransformerBridge)):
            raise ValueError(f"{name}={each!r:.80} is no workbench: make one by load(…), such as load('atlas')")
    model = tuned if isinstance(tuned, TransformerBridge) else tuned.model
    kinds = [type(each.original_model).__name__ for each in (base.model, model)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"the models are of other kinds, {kinds[0]} and {kinds[1]}: expected a base and what was tuned from it")
    for name in SHAPES:
        ours, theirs = (getattr(each.cfg, name, None) for each in (base.model, model))
        if ours != theirs:
            raise ValueError(f"the models have other shapes, {name} {ours} and {theirs}: expected a base and what was tuned from it")
    if _tokens(base.model) != _tokens(model):
        raise ValueError("the models have other tokenizers: their positions would not be the same words")
    if start_token(base.model).ids != start_token(model).ids:
        raise ValueError(
            f"the models are read with other start tokens ({start_token(base.model)}; {start_token(model)}): "
            "give both the same start_token="
        )
    check_dictionary(base.model, base.sae)
    check_dictionary(model, base.sae)
    if model is base.model or _same_weights(base.model, model):
        raise ValueError("nothing differs: both models have the same weights")
    return model


def _tokens(model: "TransformerBridge") -> dict[str, int]:
    return model.tokenizer.get_vocab()


def _same_weights(one: "TransformerBridge", other: "TransformerBridge") -> bool:
    weights, others = (dict(each.original_model.named_parameters()) for each in (one, other))
    return weights.keys() == others.keys() and all(torch.equal(w.cpu(), others[name].cpu()) for name, w in weights.items())
