"""The reference of architectures.py: a Hugging Face model under one forward hook of torch's own, one whole pass for every edit.

Nothing of the bridge and nothing of the workbench, but the SAE whose features are edited.
"""

from typing import Any

import torch
from tiny_configs import N_LAYERS

BLOCK = N_LAYERS // 2
HOOK_NAMES = f"blocks.{BLOCK}.hook_resid_pre", f"blocks.{BLOCK}.mlp.hook_out"  # the first that holds a vector a token


class Plain:
    """The Hugging Face model with a hook of torch's own: at what a module takes, or (is_output) at what it gives."""

    def __init__(self, hf_model: Any, module: torch.nn.Module, is_output: bool):
        self.hf_model, self.module, self.is_output = hf_model, module, is_output

    def run(self, tokens: torch.Tensor, edit: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(what stands there, all logits), with edit(x) in its place."""
        caught: list[torch.Tensor] = []

        def changed(x: torch.Tensor) -> torch.Tensor:
            stream = x[0] if x.ndim == 4 else x  # Gemma 3n's stack: its first stream is the one that layers work on
            caught.append(stream.detach())
            new = stream if edit is None else edit(stream)
            return torch.cat([new[None], x[1:]]) if x.ndim == 4 else new

        def enter(_: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
            return ((changed(args[0]), *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": changed(kwargs["hidden_states"])})

        def leave(_: Any, args: tuple, output: Any) -> Any:
            return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

        hooks = (
            self.module.register_forward_hook(leave) if self.is_output else self.module.register_forward_pre_hook(enter, with_kwargs=True)
        )
        try:
            logits = self.hf_model(tokens, use_cache=False).logits
        finally:
            hooks.remove()
        return caught[0], logits

    def gradient(self, tokens: torch.Tensor) -> torch.Tensor:
        leaves: list[torch.Tensor] = []

        def leaf(x: torch.Tensor) -> torch.Tensor:
            leaves.append(x.detach().requires_grad_())
            return leaves[-1]

        with torch.enable_grad():
            _, logits = self.run(tokens, leaf)
            return torch.autograd.grad(answer_difference(logits), leaves[0])[0][0]


def module_of(model: Any, hf_model: Any, hook_name: str) -> tuple[torch.nn.Module, bool]:
    """(the Hugging Face module at the hook point, is it its output?)"""
    layer = hf_model.get_submodule(f"{model.adapter.component_mapping['blocks'].name}.{BLOCK}")
    return (layer, False) if hook_name == HOOK_NAMES[0] else (layer.get_submodule(model.blocks[BLOCK].mlp.name), True)


def edit_at(sae: Any, pos: int | None, values: dict[int, float]) -> Any:
    """x with features set, at one position or at all."""

    def edit(x: torch.Tensor) -> torch.Tensor:
        acts = sae.encode(x)
        edited = acts.clone()
        for feature, value in values.items():
            edited[..., feature] = value
        change = (edited - acts) @ sae.W_dec
        if pos is not None:
            change[:, [p for p in range(x.shape[1]) if p != pos]] = 0
        return x + change

    return edit


def answer_difference(logits: torch.Tensor) -> torch.Tensor:
    return logits[0, -1, 5] - logits[0, -1, 7]
