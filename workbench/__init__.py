"""From a prompt to the features behind its answer.

    import workbench as wb
    bench = wb.load("atlas")
    ranking = bench.rank("Fact: The capital of the state where Kobe Bryant played basketball is", wb.logit_diff(" Sacramento", " Albany"))

The names that a notebook starts with. Each is imported when it is first used: torch and transformer_lens take seconds, this file none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from workbench import atlas
    from workbench.activations.stream import ActivationStream, ActivationStreams
    from workbench.bench import Workbench
    from workbench.benches import load
    from workbench.checks.check import check
    from workbench.circuits.evidence.minimal import minimal_sets
    from workbench.circuits.graph.circuit import Circuit
    from workbench.circuits.intervene import clamp
    from workbench.circuits.metrics import logit_diff
    from workbench.circuits.ranking.comparison import compare
    from workbench.circuits.ranking.ranking import rank
    from workbench.circuits.steering.scores import score_features
    from workbench.features.changes.crosscoder import Crosscoder, train_crosscoder
    from workbench.features.changes.diff import diff
    from workbench.features.index.index import FeatureIndex, build_index
    from workbench.features.lists.feature_list import FeatureList
    from workbench.features.probes.probe import probe
    from workbench.sae.config import SAEConfig, TranscoderConfig
    from workbench.sae.cross_layer import CrossLayerTranscoder
    from workbench.sae.evaluate import decoder_cosine, evaluate
    from workbench.sae.evaluate_layers import evaluate_layers
    from workbench.sae.sae import SAE
    from workbench.sae.scaling.plan import plan
    from workbench.sae.scaling.sweep import ScalingLaws
    from workbench.sae.training.copies import merge_copies
    from workbench.sae.training.monitor import TrainingHistory
    from workbench.sae.training.train import TrainConfig, train, train_cross_layer, train_many
    from workbench.sae.transcoder import Transcoder, load_transcoders

_HOMES = {
    "check": "workbench.checks.check",
    "ActivationStream": "workbench.activations.stream",
    "ActivationStreams": "workbench.activations.stream",
    "load": "workbench.benches",
    "Workbench": "workbench.bench",
    "Circuit": "workbench.circuits.graph.circuit",
    "logit_diff": "workbench.circuits.metrics",
    "minimal_sets": "workbench.circuits.evidence.minimal",
    "rank": "workbench.circuits.ranking.ranking",
    "compare": "workbench.circuits.ranking.comparison",
    "score_features": "workbench.circuits.steering.scores",
    "clamp": "workbench.circuits.intervene",
    "build_index": "workbench.features.index.index",
    "FeatureIndex": "workbench.features.index.index",
    "FeatureList": "workbench.features.lists.feature_list",
    "diff": "workbench.features.changes.diff",
    "Crosscoder": "workbench.features.changes.crosscoder",
    "train_crosscoder": "workbench.features.changes.crosscoder",
    "probe": "workbench.features.probes.probe",
    "SAE": "workbench.sae.sae",
    "SAEConfig": "workbench.sae.sae",
    "Transcoder": "workbench.sae.transcoder",
    "TranscoderConfig": "workbench.sae.config",
    "CrossLayerTranscoder": "workbench.sae.cross_layer",
    "load_transcoders": "workbench.sae.transcoder",
    "decoder_cosine": "workbench.sae.evaluate",
    "evaluate": "workbench.sae.evaluate",
    "evaluate_layers": "workbench.sae.evaluate_layers",
    "TrainConfig": "workbench.sae.training.train",
    "train": "workbench.sae.training.train",
    "train_cross_layer": "workbench.sae.training.train",
    "train_many": "workbench.sae.training.train",
    "merge_copies": "workbench.sae.training.copies",
    "TrainingHistory": "workbench.sae.training.monitor",
    "ScalingLaws": "workbench.sae.scaling.sweep",
    "plan": "workbench.sae.scaling.plan",
}
__all__ = [
    "SAE",
    "ActivationStream",
    "ActivationStreams",
    "Circuit",
    "CrossLayerTranscoder",
    "Crosscoder",
    "FeatureIndex",
    "FeatureList",
    "SAEConfig",
    "ScalingLaws",
    "TrainConfig",
    "TrainingHistory",
    "Transcoder",
    "TranscoderConfig",
    "Workbench",
    "atlas",
    "build_index",
    "check",
    "clamp",
    "compare",
    "decoder_cosine",
    "diff",
    "evaluate",
    "evaluate_layers",
    "load",
    "load_transcoders",
    "logit_diff",
    "merge_copies",
    "minimal_sets",
    "plan",
    "probe",
    "rank",
    "score_features",
    "train",
    "train_cross_layer",
    "train_crosscoder",
    "train_many",
]


def __getattr__(name: str) -> Any:
    if name == "atlas":
        return import_module("workbench.atlas")
    if name not in _HOMES:
        raise AttributeError(f"workbench has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
