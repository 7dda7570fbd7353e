"""What stands in the place of every MLP of a model: a transcoder of each layer's own, or one cross-layer transcoder.

    own            y_hat[m] = feature_acts[m] @ W_dec[m] + b_dec[m] + x[m] @ W_skip[m]
    cross-layer    y_hat[m] = Σ_{l ≤ m} feature_acts[l] @ W_dec[l → m] + b_dec[m] + x[m] @ W_skip[m]

Both as a list of layers: what reads there, and what its features write, there and above. A set of transcoders writes nothing above.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.replay.precision import wide
from workbench.sae.architectures import select
from workbench.sae.config import CFG_FILE
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.formats import circuit_tracer
from workbench.sae.formats.files import SUFFIXES
from workbench.sae.formats.transcoders import is_cross_layer
from workbench.sae.parts import n_parts
from workbench.sae.transcoder import Transcoder, load_transcoders
from workbench.shapes import Activations, FeatureActs

Transcoders = Mapping[int, Transcoder] | CrossLayerTranscoder


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer's features: where and how they read, and their decoders by the layer that is written into. Of weights of 16 bits the
    matrices of features stay so; what is summed with the model's activations is float32."""

    hook_name_in: str
    hook_name_out: str
    pre_acts: Callable[[Activations], FeatureActs]
    select: Callable[[FeatureActs], FeatureActs]  # pre-activations → feature activations
    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, "d_sae"]
    W_decs: Mapping[int, Float[Tensor, "d_sae d_out"]]
    b_dec: Float[Tensor, "d_out"]  # of what is predicted at this layer
    W_skip: Float[Tensor, "d_in d_out"] | None
    compares_rows: bool = False  # does what is active at one row depend on the others?

    def encode(self, x: Activations) -> FeatureActs:
        """What is read → feature activations."""
        return self.select(self.pre_acts(x.to(self.W_enc.dtype)))

    @property
    def W_dec(self) -> Float[Tensor, "d_sae writes"]:
        """All that a feature writes, side by side: what directions are compared by."""
        return next(iter(self.W_decs.values())) if len(self.W_decs) == 1 else torch.cat(list(self.W_decs.values()), dim=1)

    @property
    def d_sae(self) -> int:
        """How many features."""
        return len(self.b_enc)


def load_stack(source: str | Path, device: str | torch.device = "cpu") -> Transcoders:
    """Whatever a folder or hub id holds: a set of transcoders or a cross-layer one. Raises SAEError."""
    return CrossLayerTranscoder.load(source, device) if is_cross_layer(source) else load_transcoders(source, device)


def is_set(folder: str | Path) -> bool:
    """Does this folder hold a transcoder of each layer: circuit-tracer's, or several folders and no weights of its own?"""
    folder = Path(folder).expanduser()
    if circuit_tracer.is_folder(folder):
        return not is_cross_layer(folder)
    if not folder.is_dir() or any(path.suffix in SUFFIXES for path in folder.iterdir()):
        return False
    return sum((path / CFG_FILE).is_file() for path in folder.iterdir()) > 1


def stack_of(transcoders: Transcoders) -> list[Layer]:
    """From the lowest layer up."""
    if isinstance(transcoders, CrossLayerTranscoder):
        return [_crossing(transcoders, layer) for layer in range(transcoders.cfg.n_layers)]
    return [_own(transcoders[layer], layer) for layer in range(len(transcoders))]


def writers(stack: Sequence[Layer], layer: int) -> range:
    """The layers whose features write into this one: of a cross-layer transcoder it and all below, else it alone."""
    return range(min(below for below in range(layer + 1) if layer in stack[below].W_decs), layer + 1)


def predicted(
    stack: Sequence[Layer], feature_acts: Mapping[int, FeatureActs] | Sequence[FeatureActs], x: Activations, layer: int
) -> Activations:
    """y_hat at one layer. feature_acts: of the layers that write into it; x: what is read there."""
    y_hat = stack[layer].b_dec
    for below in writers(stack, layer):
        y_hat = feature_acts[below] @ stack[below].W_decs[layer] + y_hat
    skip = stack[layer].W_skip
    return y_hat if skip is None else y_hat + x @ skip


class Predictions:
    """y_hat of every layer, while what the layers read comes in, from the lowest up. Feature activations of some rows at a time."""

    def __init__(self, stack: Sequence[Layer]):
        self.stack = stack
        self._y_hats: dict[int, Tensor] = {}

    def read(self, layer: int, x: Activations, keep: Callable[[int, FeatureActs], object] = lambda first, feature_acts: None) -> None:
        """What a layer's features write, here and above. keep(first row, feature_acts) sees them."""
        it, first = self.stack[layer], 0
        for above in it.W_decs:
            if above not in self._y_hats:
                b_dec = self.stack[above].b_dec
                self._y_hats[above] = b_dec.expand(len(x), len(b_dec)).clone()
        for rows in x.tensor_split(n_parts_of(it, len(x))):
            self._write(it, first, it.encode(rows), keep)
            first += len(rows)

    def at(self, layer: int, x: Activations) -> Activations:
        """y_hat at a layer that has been read, as all below have; x: what is read there."""
        skip, y_hat = self.stack[layer].W_skip, self._y_hats.pop(layer)
        return y_hat if skip is None else y_hat + x @ skip

    def _write(self, it: Layer, first: int, feature_acts: FeatureActs, keep: Callable[[int, FeatureActs], object]) -> None:
        keep(first, feature_acts)
        here = slice(first, first + len(feature_acts))
        for above, W_dec in it.W_decs.items():
            self._y_hats[above][here] = feature_acts @ W_dec + self._y_hats[above][here]


def n_parts_of(layer: Layer, n_rows: int) -> int:
    """In how many parts rows are encoded."""
    return 1 if layer.compares_rows else n_parts(layer.d_sae, n_rows)


def encoding_bytes(layer: Layer, n_rows: int) -> int:
    """What one part takes at its peak."""
    return 2 * -(-n_rows // n_parts_of(layer, n_rows)) * layer.d_sae * layer.W_enc.element_size()


def _own(transcoder: Transcoder, layer: int) -> Layer:
    it, cfg = transcoder, transcoder.cfg
    reads = it.pre_acts, (lambda pre_acts: select(cfg.architecture, pre_acts, k=cfg.k, threshold=it.threshold))
    return Layer(
        cfg.hook_name_in,
        cfg.hook_name_out,
        *reads,
        it.W_enc,
        wide(it.b_enc),
        {layer: it.W_dec},
        wide(it.b_dec),
        None if it.W_skip is None else wide(it.W_skip),
        it.compares_rows,
    )


def _crossing(clt: CrossLayerTranscoder, layer: int) -> Layer:
    places = clt.cfg.hook_names_in[layer], clt.cfg.hook_names_out[layer]
    W_decs = {layer + above: clt.W_dec[layer][:, above] for above in range(clt.cfg.n_layers - layer)}
    skip = None if clt.W_skip is None else wide(clt.W_skip[layer])
    reads = (lambda x: clt.pre_acts(x, layer)), (lambda pre_acts: clt.select(pre_acts, layer))
    return Layer(*places, *reads, clt.W_enc[layer], wide(clt.b_enc[layer]), W_decs, wide(clt.b_dec[layer]), skip)
