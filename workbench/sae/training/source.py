"""What training reads: streams of raw activations, and what a dictionary takes of them: x at one place or, to predict, x and y at two.

an SAE          x → x_hat                       one hook point
a transcoder    x → y_hat, compared with y      the same tokens at two hook points, each with its own width and scale
cross-layer     the same at two hook points of every block, stacked: x (batch, n_layers, d_in), y (batch, n_layers, d_out)
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from workbench.sae.training.recipe import TrainConfig

OF_TWO_PLACES = ("predict", "d_out", "scale_out", "has_skip")  # said of transcoders only


class TrainingError(ValueError):
    """Activations or a loss that are not finite, a stream that ends early or lacks a place, a checkpoint of another run."""


@runtime_checkable
class Stream(Protocol):
    """What training reads: shuffled batches of raw activations, and where they come from (workbench.activations.stream.ActivationStream).

    To go on after a stop it also has position() → dict[str, int] and seek(position).
    """

    model_name: str
    hook_name: str
    d_in: int
    scale: float

    def __iter__(self) -> Iterator[Tensor]: ...


@runtime_checkable
class Streams(Protocol):
    """The same at several hook points at once: widths, scales and batches by hook name (workbench.activations.stream.ActivationStreams)."""

    model_name: str
    d_in: dict[str, int]
    scale: dict[str, float]

    def __iter__(self) -> Iterator[dict[str, Tensor]]: ...


@dataclass(frozen=True)
class Source:
    """Where activations come from."""

    hook_name: str
    model_name: str
    d_in: int
    scale: float  # x = scale · activation: E‖x‖² = d_in
    start_token: str | None = None  # what led every text that was read, "" for nothing; None where the stream does not say
    predict: str | None = None  # a transcoder's: where y comes from
    d_out: int | None = None
    scale_out: float | None = None  # y = scale_out · activation: E‖y‖² = d_out

    n_layers: ClassVar[int] = 1  # of features

    def of(self, batch: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """(x, y), raw, of one batch of the stream; y is None where nothing else is predicted."""
        if isinstance(batch, Tensor):
            return batch, None
        return batch[self.hook_name], batch[self.predict] if self.predict else None

    def scaled(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The same in float32, as training sees them."""
        if y is None:
            return x.float() * self.scale, None
        assert self.scale_out is not None
        return x.float() * self.scale, y.float() * self.scale_out


@dataclass(frozen=True)
class CrossLayerSource:
    """The same of a cross-layer transcoder: of every block one place that is read and one that is predicted, each with its scale."""

    hook_name: str  # inside of a block: "mlp.hook_in"
    model_name: str
    n_layers: int
    d_in: int
    d_out: int
    scale: list[float]
    scale_out: list[float]
    predict: str  # inside of a block: "hook_mlp_out"
    start_token: str | None = None

    def of(self, batch: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(x, y), raw, of one batch of the stream."""
        assert not isinstance(batch, Tensor)
        read, written = ([batch[f"blocks.{n}.{end}"] for n in range(self.n_layers)] for end in (self.hook_name, self.predict))
        return torch.stack(read, 1), torch.stack(written, 1)

    def scaled(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same in float32, as training sees them."""
        assert y is not None
        scale, scale_out = (torch.tensor(of_layers, device=x.device)[:, None] for of_layers in (self.scale, self.scale_out))
        return x.float() * scale, y.float() * scale_out


def cross_layer_source(stream: Any, cfg: TrainConfig, hook_in: str, hook_out: str) -> CrossLayerSource:
    """Both places in every block that the stream reads. Raises TrainingError where the stream lacks one, or the widths differ."""
    if not isinstance(getattr(stream, "d_in", None), dict):
        names = f"[f'blocks.{{n}}.{{end}}' for n in range(model.cfg.n_layers) for end in ({hook_in!r}, {hook_out!r})]"
        raise TrainingError(f"a cross-layer transcoder reads every block: give it ActivationStreams(model, texts, {names})")
    if cfg.architecture == "topk" or cfg.widths or cfg.precision != "float32":
        raise TrainingError("a cross-layer transcoder is trained in float32 as standard, jumprelu or batchtopk, without nested widths")
    if cfg.merge_copies:
        raise TrainingError("merge_copies is not for cross-layer transcoders: leave it out")
    if cfg.hook_name not in ("", hook_in):
        raise TrainingError(f"TrainConfig.hook_name is {cfg.hook_name!r}, but hook_in {hook_in!r}: leave the first out")
    blocks = {
        int(name.split(".")[1]) for name in stream.d_in if name.startswith("blocks.") and name.endswith((f".{hook_in}", f".{hook_out}"))
    }
    n_layers = getattr(getattr(getattr(stream, "model", None), "cfg", None), "n_layers", max(blocks, default=0) + 1)
    places = [[f"blocks.{n}.{end}" for n in range(n_layers)] for end in (hook_in, hook_out)]
    for name in (name for names in places for name in names):
        if name not in stream.d_in:
            raise TrainingError(f"the stream does not read {name}; a cross-layer transcoder needs {hook_in} and {hook_out} of every block")
    widths = [{stream.d_in[name] for name in names} for names in places]
    if max(map(len, widths)) > 1:
        raise TrainingError(f"blocks of several widths, {sorted(widths[0])} → {sorted(widths[1])}: a cross-layer transcoder has one at all")
    ((d_in,), (d_out,)), (scale, scale_out) = widths, ([stream.scale[name] for name in names] for names in places)
    start = getattr(stream, "start_token", None)
    return CrossLayerSource(hook_in, stream.model_name, n_layers, d_in, d_out, scale, scale_out, hook_out, start)


def source_of(stream: Stream | Streams, cfg: TrainConfig, predict: str | None = None) -> Source:
    """What `cfg` is trained on. Raises TrainingError where the stream does not read its hook point, or not the one to predict."""
    if predict is None and cfg.has_skip:
        raise TrainingError("has_skip is a transcoder's: say what it predicts, predict='blocks.6.hook_mlp_out'")
    start = getattr(stream, "start_token", None)
    if isinstance(stream, Stream):
        if cfg.hook_name not in ("", stream.hook_name):
            raise TrainingError(f"the config is for {cfg.hook_name}, the stream reads {stream.hook_name}")
        if predict is not None:
            both = f"ActivationStreams(model, texts, [{stream.hook_name!r}, {predict!r}])"
            raise TrainingError(f"the stream reads {stream.hook_name} alone; to predict {predict} from it, read both: {both}")
        return Source(stream.hook_name, stream.model_name, stream.d_in, stream.scale, start)
    if not isinstance(stream, Streams):
        raise TrainingError(f"{stream!r} is no stream of activations: expected ActivationStream(model, texts, hook_name)")
    if predict is not None:
        return _pair(stream, cfg.hook_name, predict, start)
    if cfg.hook_name not in stream.d_in:
        raise TrainingError(f"TrainConfig.hook_name is {cfg.hook_name!r}; the stream reads {', '.join(stream.d_in)}")
    return Source(cfg.hook_name, stream.model_name, stream.d_in[cfg.hook_name], stream.scale[cfg.hook_name], start)


def sources_of(stream: Stream | Streams, configs: Sequence[TrainConfig], predict: Sequence[str] | None) -> list[Source]:
    """The same for several configs; predict: a hook point for each, where transcoders are trained."""
    if predict is not None and (isinstance(predict, str) or len(predict) != len(configs)):
        raise TrainingError(f"predict={predict!r} of {len(configs)} configs: expected a list with a hook point for each")
    return [source_of(stream, cfg, place) for cfg, place in zip(configs, predict or [None] * len(configs), strict=True)]


def _pair(stream: Streams, hook_name: str, predict: str, start: str | None) -> Source:
    others = [name for name in stream.d_in if name != predict]
    hook_name = hook_name or (others[0] if len(others) == 1 else "")  # of two places it is plain which is read
    for what, name in (("predict", predict), ("TrainConfig.hook_name", hook_name)):
        if name not in stream.d_in:
            near = difflib.get_close_matches(name, list(stream.d_in), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise TrainingError(f"{what} is {name!r}; the stream reads {', '.join(stream.d_in)}{meant}")
    if hook_name == predict:
        raise TrainingError(f"predict is {predict!r}, the place that is read: leave predict out to train an SAE there")
    d_in, scale = stream.d_in, stream.scale
    return Source(hook_name, stream.model_name, d_in[hook_name], scale[hook_name], start, predict, d_in[predict], scale[predict])


def describe(source: Source | CrossLayerSource, cfg: TrainConfig) -> dict[str, Any]:
    """What has to be equal for a run to go on, and what a dictionary says of its training."""
    run = asdict(cfg) | asdict(source)
    widths = run.pop("widths")
    run |= {"widths": list(widths)} if widths else {}
    run |= {} if run.pop("merge_copies") is False else {"merge_copies": True}
    return run if source.predict else {name: value for name, value in run.items() if name not in OF_TWO_PLACES}
