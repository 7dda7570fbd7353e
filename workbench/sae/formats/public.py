"""Public SAEs that come with no library's folder, and what the names of public repositories tell where their files say nothing.

    OpenAI                encoder.weight, latent_bias, pre_bias, activation; ReLU (its TopK SAEs divide each token by its own deviation)
    Goodfire              encoder_linear.weight …; ReLU, renamed
    Connor Kissane, Rob   x.pt and x_cfg.json (act_name); ReLU of (x − b_dec) at attention's hook_z
    Qwen Scope            layer0.sae.pt: W_enc (d_sae, d_in), W_dec (d_in, d_sae); TopK, k in the repository's name

Only what the files leave open is taken from a name, and the SAE says so (metadata "assumed"). The facts are those of pretrained_saes.yaml
and the loaders of SAELens 6.54.12.
"""

import re
from dataclasses import replace
from pathlib import Path

from workbench.sae.config import SAEError
from workbench.sae.formats.foreign import JSON, Foreign, Weights, whole

QWEN_SCOPE = re.compile(r"SAE-Res-(?P<model>Qwen[\w.-]+?)-W\d+K-L0_(?P<k>\d+)(?:/|$)")
QWEN_LAYER = re.compile(r"layer(\d+)\.sae\.pt$")
CENTERED = (
    "jbloom/GPT2-Small-SAEs-Reformatted",
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
    "tommmcgrath/gpt2-small-mlp-out-saes",
)
TOKEN_NORM = ("JoshEngels/Mistral-7B-Residual-Stream-SAEs",)
HOOKS = {
    "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19": ("blocks.19.hook_resid_post", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
    "Goodfire/Llama-3.3-70B-Instruct-SAE-l50": ("blocks.50.hook_resid_post", "meta-llama/Llama-3.3-70B-Instruct"),
    "Goodfire/Llama-3.1-8B-Instruct-SAE-l19": ("blocks.19.hook_resid_post", "meta-llama/Llama-3.1-8B-Instruct"),
}


def openai(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """OpenAI's GPT-2 SAEs with ReLU. Raises SAEError for the others."""
    activation = cfg.get("activation", "ReLU")
    if activation != "ReLU":
        raise SAEError(f"{path}: OpenAI's {activation} SAEs divide each token by its own deviation, which no weights can hold")
    kept = ("W_enc", "W_dec", "b_enc", "b_dec")
    return Foreign("OpenAI", {name: weights[name] for name in kept if name in weights}, subtracts_b_dec=True)


def connor_rob(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """SAEs of the repository of Connor Kissane and Rob Krzyzanowski, of GPT-2 small."""
    said = {"d_in": whole(cfg, "act_size", path), "d_sae": whole(cfg, "dict_size", path)}
    return Foreign("Connor–Rob", weights, hook_name=cfg["act_name"], model_name="gpt2-small", subtracts_b_dec=True, said=said)


def qwen_scope(weights: Weights, path: Path, place: str) -> Foreign:
    """Qwen Scope's TopK SAEs. place: the repository's name, which alone says k. Raises SAEError without it."""
    name, layer = QWEN_SCOPE.search(place), QWEN_LAYER.search(path.name)
    if not name:
        raise SAEError(
            f"{path} looks like Qwen Scope's TopK SAE (W_enc is d_sae × d_in), whose k stands in its repository's name only, such as "
            "SAE-Res-Qwen3-8B-Base-W64K-L0_50: keep it in a folder of that name"
        )
    weights = weights | {"W_enc": weights["W_enc"].T, "W_dec": weights["W_dec"].T}
    return Foreign(
        "Qwen Scope",
        weights,
        hook_name=f"blocks.{layer[1]}.hook_resid_post" if layer else None,
        model_name=f"Qwen/{name['model']}",
        architecture="topk",
        k=int(name["k"]),
        metadata={"assumed": f"TopK with k {name['k']} by the repository's name, {name[0].rstrip('/')}"},
    )


def with_known(foreign: Foreign, place: str) -> Foreign:
    """The same with what its repository's name tells, where the file says nothing of it."""
    assumed = []
    name = next((name for name in (*CENTERED, *TOKEN_NORM, *HOOKS) if f"/{name}/" in f"/{place}/"), None)
    if name in TOKEN_NORM:
        raise SAEError(f"{name}: its SAEs were trained on activations divided by each token's own norm, which no weights can hold")
    if name in CENTERED and "model_from_pretrained_kwargs" not in foreign.metadata and not foreign.centers_input:
        foreign, assumed = replace(foreign, centers_input=True), ["trained on centered weights"]
    if name in HOOKS and not foreign.hook_name:
        hook_name, model_name = HOOKS[name]
        foreign, assumed = replace(foreign, hook_name=hook_name, model_name=foreign.model_name or model_name), [f"at {hook_name}"]
    if not assumed:
        return foreign
    return replace(foreign, metadata={**foreign.metadata, "assumed": f"{', '.join(assumed)}, by the repository's name, {name}"})
