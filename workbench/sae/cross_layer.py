"""Cross-layer transcoders: a feature reads the stream at one layer and writes into the MLP output of that layer and of every later one.

    feature_acts[l] = select(x[l] @ W_enc[l] + b_enc[l])
    y_hat[m]        = Σ_{l ≤ m} feature_acts[l] @ W_dec[l][:, m − l] + b_dec[m] + x[m] @ W_skip[m]      W_skip only where there is a skip

"Circuit Tracing" (Ameisen et al., 2025), "Building an interpretable replacement model". One set covers all layers of a model, 0 to
n_layers − 1, and everything has the layer first. On disk it is circuit-tracer's folder (formats/circuit_tracer.py). A feature's norm is
that of all that it writes, into all layers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.finite import forget_whole
from workbench.sae.architectures import batch_topk, jumprelu, relu
from workbench.sae.config import CrossLayerConfig
from workbench.sae.formats.circuit_tracer_write import write_cross_layer
from workbench.sae.formats.transcoders import read_cross_layer

LayerInputs = Float[Tensor, "n_layers *batch d_in"]
LayerActs = Float[Tensor, "n_layers *batch d_sae"]
LayerOutputs = Float[Tensor, "n_layers *batch d_out"]


class CrossLayerTranscoder(nn.Module):
    """Per layer l: W_enc[l] (d_in, d_sae), b_enc[l] (d_sae), W_dec[l] (d_sae, n_layers − l, d_out), b_dec[l] (d_out); jumprelu:
    threshold[l] (d_sae); with a skip W_skip[l] (d_in, d_out)."""

    def __init__(self, cfg: CrossLayerConfig):
        super().__init__()
        self.cfg = cfg
        n, layers = cfg.n_layers, range(cfg.n_layers)
        self.W_enc = nn.ParameterList(torch.zeros(cfg.d_sae, cfg.d_in).T for _ in layers)
        self.b_enc = nn.Parameter(torch.zeros(n, cfg.d_sae))
        self.W_dec = nn.ParameterList(torch.zeros(cfg.d_sae, n - layer, cfg.d_out) for layer in layers)
        self.b_dec = nn.Parameter(torch.zeros(n, cfg.d_out))
        self.threshold = nn.Parameter(torch.zeros(n, cfg.d_sae)) if cfg.architecture == "jumprelu" else None
        self.W_skip = nn.Parameter(torch.zeros(n, cfg.d_in, cfg.d_out)) if cfg.has_skip else None

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        forget_whole(self)
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        cfg = self.cfg
        skip = ", with a skip" if cfg.has_skip else ""
        widths = f"{cfg.d_in:,} → {cfg.d_sae:,} features → {cfg.d_out:,}"
        assumed = f"; assumed: {cfg.metadata['assumed']}" if "assumed" in cfg.metadata else ""
        places = f"{cfg.hook_in} → {cfg.hook_out} of this and every later layer"
        return f"{cfg.architecture}{skip}, {cfg.n_layers} layers, {widths}, {places}{assumed}"

    def encode(self, x: LayerInputs) -> LayerActs:
        """Raw activations at hook_names_in, layer first → feature activations of every layer."""
        if self.cfg.k is not None:
            return batch_topk(torch.stack([self.pre_acts(x[layer], layer) for layer in range(self.cfg.n_layers)]), self.cfg.k)
        return torch.stack([self.encode_layer(x[layer], layer) for layer in range(self.cfg.n_layers)])

    def encode_layer(self, x: Float[Tensor, "*batch d_in"], layer: int) -> Float[Tensor, "*batch d_sae"]:
        """One layer's features from the activation at its own hook_name_in."""
        return self.select(self.pre_acts(x, layer), layer)

    def select(self, pre_acts: Float[Tensor, "*batch d_sae"], layer: int) -> Float[Tensor, "*batch d_sae"]:
        """Which of a layer's features are active. Raises ValueError for batchtopk, which asks all layers together."""
        if self.cfg.k is not None:
            raise ValueError(
                "batchtopk selects among the features of all layers: encode(x), or train it to its end, which makes it jumprelu"
            )
        return relu(pre_acts) if self.threshold is None else jumprelu(pre_acts, self.threshold[layer])

    def pre_acts(self, x: Float[Tensor, "*batch d_in"], layer: int) -> Float[Tensor, "*batch d_sae"]:
        return x @ self.W_enc[layer] + self.b_enc[layer]

    def decode(self, feature_acts: LayerActs, x: LayerInputs | None = None) -> LayerOutputs:
        """Feature activations of every layer → y_hat at hook_names_out. x: what was encoded, needed where there is a skip."""
        if self.W_skip is not None and x is None:
            raise ValueError("this transcoder has a skip: decode(feature_acts, x) needs the x that was encoded")
        n, d_out = self.cfg.n_layers, self.cfg.d_out
        written = [(feature_acts[layer] @ self.W_dec[layer].flatten(1)).unflatten(-1, (n - layer, d_out)) for layer in range(n)]
        outputs = []
        for target in range(n):
            y_hat = self.b_dec[target] + sum(written[layer][..., target - layer, :] for layer in range(target + 1))
            outputs.append(y_hat if self.W_skip is None or x is None else y_hat + x[target] @ self.W_skip[target])
        return torch.stack(outputs)

    def forward(self, x: LayerInputs) -> LayerOutputs:
        return self.decode(self.encode(x), x)

    def norms(self) -> Float[Tensor, "n_layers d_sae"]:
        """Of all that each feature writes."""
        return torch.stack([W_dec.flatten(1).norm(dim=1) for W_dec in self.W_dec])

    @torch.no_grad()
    def fold_decoder_norms(self) -> Self:
        """Make every feature's norm 1 without changing the output: it moves into the encoder and the threshold."""
        norms = self.norms().clamp_min(1e-12)  # of a feature that writes nothing
        for layer, norm in enumerate(norms):
            self.W_dec[layer].div_(norm[:, None, None])
            self.W_enc[layer].mul_(norm)
        self.b_enc *= norms
        if self.threshold is not None:
            self.threshold *= norms
        return self

    @torch.no_grad()
    def normalize_decoder(self) -> None:
        """Make every feature's norm 1, and the output another."""
        for W_dec, norm in zip(self.W_dec, self.norms(), strict=True):
            W_dec.div_(norm[:, None, None])

    @torch.no_grad()
    def fold_scales(self, scale_in: Sequence[float], scale_out: Sequence[float]) -> Self:
        """One trained on scale_in · x and scale_out · y, by layer, becomes the same one on x and y; pre-activations stay as they are."""
        for layer in range(self.cfg.n_layers):
            self.W_enc[layer].mul_(scale_in[layer])
            self.W_dec[layer].div_(torch.tensor(scale_out[layer:], device=self.b_dec.device)[:, None])
            self.b_dec[layer].div_(scale_out[layer])
            if self.W_skip is not None:
                self.W_skip[layer].mul_(scale_in[layer] / scale_out[layer])
        return self

    def save(self, folder: str | Path) -> None:
        """Write circuit-tracer's folder, each file complete or absent. With a skip only this reads it: circuit-tracer loses a CLT's."""
        write_cross_layer(self, Path(folder))

    @classmethod
    def load(
        cls,
        source: str | Path,
        device: str | torch.device = "cpu",
        *,
        hook_in: str | None = None,
        hook_out: str | None = None,
        model_name: str | None = None,
    ) -> "CrossLayerTranscoder":
        """Read circuit-tracer's folder of a cross-layer transcoder, Gemma Scope 2's (params_layer_0.safetensors …), or a hub id of either.
        Frozen, float32. The names given, inside of a block, win over what the files say. Raises SAEError."""
        return read_cross_layer(cls, source, device, hook_in=hook_in, hook_out=hook_out, model_name=model_name)
