"""Small SAEs in the forms of public ones that come with no library's folder, and of what SAELens 6.54 has besides; see foreign_saes.py."""

import json
from pathlib import Path

import numpy as np
import torch
from foreign_libraries import LLAMA_CFG, dictionary
from foreign_saes import D_IN, D_SAE, HOOK, META, SAELENS_6, Case, K, Parts, jump, saelens, topk
from safetensors.torch import save_file
from torch import Tensor


def saelens_whitened(folder: Path) -> Case:
    """A checkpoint of training on (x − m) @ M."""
    p, rng = Parts(), torch.Generator().manual_seed(9)
    mean, matrix = torch.randn(D_IN, generator=rng, dtype=torch.float64), torch.randn(D_IN, D_IN, generator=rng, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix)
    cfg = {"architecture": "standard", "apply_b_dec_to_input": True, **SAELENS_6, **META}
    source = saelens(folder, cfg | {"normalize_activations": "covariance_whitening"}, p.plain())
    save_file(
        {"mean": mean, "matrix": matrix.contiguous(), "inverse_matrix": inverse.contiguous()}, folder / "activation_whitening.safetensors"
    )
    own = lambda x: (((x - mean) @ matrix - p.b_dec) @ p.W_enc.double() + p.b_enc).relu()  # noqa: E731
    norms = (p.W_dec.double() @ inverse).norm(dim=1)
    forward = lambda x: ((own(x.double()) @ p.W_dec.double() + p.b_dec) @ inverse + mean).float()  # noqa: E731
    return Case(source, lambda x: (own(x.double()) * norms).float(), forward)


def saelens_temporal_without_attention(folder: Path) -> Case:
    p, s = Parts(), 0.7
    cfg = {"architecture": "temporal", "n_attn_layers": 0, "tied_weights": True, "sae_diff_type": "topk", "kval_topk": K}
    cfg |= {"apply_b_dec_to_input": True, "normalize_activations": "constant_scalar_rescale", "activation_normalization_factor": s}
    W_dec = p.W_dec / p.norms[:, None]
    source = saelens(folder, cfg | META, {"W_dec": W_dec, "b_dec": p.b_dec})
    own = lambda x: topk((s * x - p.b_dec) @ W_dec.T / (4 * D_IN))  # noqa: E731
    return Case(source, lambda x: own(x) / s, lambda x: (own(x) @ W_dec + p.b_dec) / s)


def llama_scope_r1(folder: Path) -> Case:
    """Thresholds and norms are tensors; both are of activations as they were scaled in training."""
    p, s = Parts(), D_IN**0.5 / 4.0
    folder.mkdir()
    cfg = LLAMA_CFG | {"act_fn": "jumprelu", "sae_type": "sae", "dataset_average_activation_norm": None}
    (folder / "config.json").write_text(json.dumps(cfg))
    extra = {"log_jumprelu_threshold": p.threshold.log(), f"dataset_average_activation_norm.{HOOK}": torch.tensor(4.0)}
    save_file(p.linear(**{"decoder.bias": p.b_dec}, **extra), folder / "sae_weights.safetensors")
    own = lambda x: jump((s * x @ p.W_enc + p.b_enc) * p.norms, p.threshold)  # noqa: E731
    return Case(folder, lambda x: own(x) / s, lambda x: ((own(x) / p.norms) @ p.W_dec + p.b_dec) / s)


def openmoss_batchtopk(folder: Path) -> Case:
    """W_E, W_D since 2026; k of each row on average, over the whole batch."""
    p, s = Parts(), D_IN**0.5 / 5.0
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_CFG | {"act_fn": "batchtopk", "top_k": K, "sae_type": "sae"}))
    save_file({"W_E": p.W_enc, "b_E": p.b_enc, "W_D": p.W_dec, "b_D": p.b_dec}, folder / "sae_weights.safetensors")

    def own(x: Tensor) -> Tensor:
        acts = ((s * x @ p.W_enc + p.b_enc) * p.norms).relu()
        return torch.where(acts >= acts.flatten().topk(K * len(x)).values[-1], acts, 0)

    return Case(folder, lambda x: own(x) / s, lambda x: ((own(x) / p.norms) @ p.W_dec + p.b_dec) / s)


def batchtopk_repository(folder: Path) -> Case:
    """b_enc is a parameter there that its TopK does not use."""
    p = Parts(norms=1.0)
    folder.mkdir()
    cfg = {"sae_type": "topk", "top_k": K, "input_unit_norm": False, "act_size": D_IN, "dict_size": D_SAE, "hook_point": HOOK}
    (folder / "config.json").write_text(json.dumps(cfg | {"model_name": "tiny", "seed": 49}))
    torch.save(p.plain(), folder / "sae.pt")
    return p.case(folder, lambda x: topk((x - p.b_dec) @ p.W_enc))


def batchtopk_repository_jumprelu(folder: Path) -> Case:
    p = Parts()
    folder.mkdir()
    cfg = {"sae_type": "jumprelu", "top_k": K, "input_unit_norm": False, "act_size": D_IN, "dict_size": D_SAE, "hook_point": HOOK}
    (folder / "config.json").write_text(json.dumps(cfg))
    torch.save(p.plain(**{"jumprelu.log_threshold": p.threshold.log()}), folder / "sae.pt")
    return p.case(folder, lambda x: jump(x @ p.W_enc + p.b_enc, p.threshold))


def openai_relu(folder: Path) -> Case:
    p = Parts()
    folder.mkdir()
    state = {"pre_bias": p.b_dec, "latent_bias": p.b_enc, "encoder.weight": p.W_enc.T, "decoder.weight": p.W_dec.T}
    state |= {"stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long), "activation": "ReLU", "activation_state_dict": {}}
    torch.save(state, folder / "6.pt")
    return p.case(folder / "6.pt", lambda x: ((x - p.b_dec) @ p.W_enc + p.b_enc).relu(), given={"hook_name": HOOK})


def goodfire(folder: Path) -> Case:
    p = Parts()
    source = folder / "Goodfire" / "Llama-3.1-8B-Instruct-SAE-l19"
    source.mkdir(parents=True)
    state = {name.replace("coder.", "coder_linear."): weight for name, weight in p.linear(**{"decoder.bias": p.b_dec}).items()}
    torch.save(state, source / "Llama-3.1-8B-Instruct-SAE-l19.pth")
    return p.case(source, lambda x: (x @ p.W_enc + p.b_enc).relu(), given={"hook_name": HOOK})


def connor_rob(folder: Path) -> Case:
    """Several x.pt in one folder, each with its x_cfg.json."""
    p = Parts()
    folder.mkdir()
    for layer in (2, 3):
        name = f"gpt2-small_L{layer}_Hcat_z_lr1.20e-03_l11.80e+00_v9"
        torch.save(p.plain(), folder / f"{name}.pt")
        (folder / f"{name}_cfg.json").write_text(json.dumps({"act_size": D_IN, "dict_size": D_SAE, "act_name": HOOK}))
    return p.case(folder / f"{name}.pt", lambda x: ((x - p.b_dec) @ p.W_enc + p.b_enc).relu())


def qwen_scope(folder: Path) -> Case:
    p = Parts(norms=1.0)
    source = folder / "Qwen" / f"SAE-Res-Qwen3-8B-Base-W64K-L0_{K}"
    source.mkdir(parents=True)
    torch.save(p.plain() | {"W_enc": p.W_enc.T.contiguous(), "W_dec": p.W_dec.T.contiguous()}, source / "layer3.sae.pt")
    return p.case(source / "layer3.sae.pt", lambda x: topk(x @ p.W_enc + p.b_enc))


def dictionary_batchtopk_of_2024(folder: Path) -> Case:
    """k, and no threshold yet."""
    p = Parts(norms=1.0)
    source = dictionary(folder, "BatchTopKSAE", p.linear(b_dec=p.b_dec, k=torch.tensor(K)), k=K)

    def own(x: Tensor) -> Tensor:
        acts = ((x - p.b_dec) @ p.W_enc + p.b_enc).relu()
        return torch.where(acts >= acts.flatten().topk(K * len(x)).values[-1], acts, 0)

    return p.case(source, own)


def gemma_scope_1_by_name(folder: Path) -> Case:
    p = Parts()
    source = folder / "google" / "gemma-scope-2b-pt-res" / "layer_3" / "width_16k" / "average_l0_71"
    source.mkdir(parents=True)
    np.savez(source / "params.npz", **{name: weight.numpy() for name, weight in p.plain(threshold=p.threshold).items()})
    return p.case(source, lambda x: jump(x @ p.W_enc + p.b_enc, p.threshold))


def gemma_scope_2_by_name(folder: Path) -> Case:
    """Without config.json."""
    p = Parts()
    source = folder / "google" / "gemma-scope-2-1b-pt" / "resid_post" / "layer_3_width_16k_l0_small"
    source.mkdir(parents=True)
    weights = {"w_enc": p.W_enc, "b_enc": p.b_enc, "w_dec": p.W_dec, "b_dec": p.b_dec, "threshold": p.threshold}
    save_file(weights, source / "params.safetensors")
    return p.case(source, lambda x: jump(x @ p.W_enc + p.b_enc, p.threshold))


PUBLIC = (
    *(saelens_whitened, saelens_temporal_without_attention, llama_scope_r1, openmoss_batchtopk, batchtopk_repository),
    *(batchtopk_repository_jumprelu, openai_relu, goodfire, connor_rob, qwen_scope, dictionary_batchtopk_of_2024),
    *(gemma_scope_1_by_name, gemma_scope_2_by_name),
)
