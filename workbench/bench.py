"""The object that a notebook holds: a model, a sparse autoencoder that reads it, and what is known about the features.

    bench = Workbench(model=model, sae=sae)                 from its parts; benches.py loads one from names

What does not fit together (widths, hook names, NaN weights) is said when it is put together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from workbench.circuits.depth.layers import SAEs
from workbench.circuits.depth.logit_lens import LogitLens, logit_lens
from workbench.circuits.direct.circuit import direct_circuit
from workbench.circuits.graph.build import build_circuit
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.swap import Members, Swap, swap
from workbench.circuits.metrics import Metric
from workbench.circuits.ranking.attribution import attribute
from workbench.circuits.ranking.batch import RankingBatch, rank_many
from workbench.circuits.ranking.measurement import LESS, ranking_need
from workbench.circuits.ranking.ranking import FeatureRanking, rank
from workbench.circuits.ranking.until import CONFIDENCE
from workbench.circuits.steering.continuations import Steering
from workbench.circuits.steering.generation import Decoding
from workbench.circuits.steering.steering import Strengths, steer
from workbench.circuits.steering.vectors import SteeringVector
from workbench.features.index.examples import Examples
from workbench.features.index.index import FeatureIndex
from workbench.features.index.own_labels import A_PERSON, LaidOver, OwnLabels
from workbench.features.index.page import FeaturePage, FeaturePages
from workbench.features.index.parts import Label
from workbench.features.search import ways
from workbench.features.search.found import Found, with_scores
from workbench.features.search.labeled import labeled
from workbench.features.search.parted import parted
from workbench.features.search.rarity import Rarity
from workbench.features.search.search import Filters, Known, find
from workbench.features.survey.mapping import FeatureMapping, feature_map
from workbench.features.survey.splitting import Splitting, splitting
from workbench.given import no_table
from workbench.model.chat import Chat, written
from workbench.model.hooks import check_cross_layer, check_dictionary, check_transcoder
from workbench.model.memory import in_words
from workbench.model.start import reading_notes, start_token
from workbench.model.tokens import to_tokens
from workbench.sae.config import checked_feature
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.dictionary import Dictionary
from workbench.sae.parts import pairs_of
from workbench.sae.sae import SAE
from workbench.sae.stack import Transcoders

PARTS = (
    ("model", TransformerBridge, 'workbench.model.model.load_model("gpt2"), or load("gpt2", sae=…) for the whole'),
    ("sae", Dictionary, "SAE.load(folder), or a transcoder by Transcoder.load(folder)"),
    ("index", FeatureIndex, "FeatureIndex.open(folder), or build_index(…)"),
)
N_EXAMPLE_TEXTS = 2000  # read in ten seconds by a model of the atlas's size, at the first page
CALLED = {"sae": "SAE"}  # where it is not the class's own name


class NoSAE(SAE):
    """In the place of an SAE where a bench has transcoders only: says so, whatever is asked of it."""

    def __init__(self):
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(
            'this bench has transcoders and no SAE: bench.circuit(prompt, metric, over="transcoders") draws a graph of all, '
            "bench.with_transcoder(layer) looks through one of them, where they are not cross-layer; or give load(…, sae=…)"
        )


NO_SAE = NoSAE()


@dataclass(frozen=True, repr=False, eq=False)
class Workbench:
    """Model + SAE (+ what is known of its features). Made only if they fit: `check_sae` speaks up otherwise."""

    model: TransformerBridge
    sae: Dictionary = NO_SAE  # an SAE, or a transcoder: whose features are ranked, found, steered by; left out beside transcoders only
    index: FeatureIndex | None = None  # build_index(…); seen through `sae`, checked to be of it and of the model
    name: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)  # feature → what it means, as far as known
    examples: Callable[[int], list] | None = None  # feature → its top examples, each with str_tokens and activations
    saes: Mapping[str, Dictionary] = field(default_factory=dict)  # several widths of one hook point, `sae` among them
    layers: Mapping[str, SAE] = field(default_factory=dict)  # hook point → an SAE there, for what goes through several layers
    layer_labels: Mapping[str, Mapping[int, str]] = field(default_factory=dict)  # hook point → feature → what it means there, in `layers`
    transcoders: Transcoders = field(default_factory=dict)  # layer → what reads the MLP's input there (load_transcoders); a cross-layer one

    def __post_init__(self):
        for name, kind, maker in PARTS:
            part = getattr(self, name)
            is_missing = part is NO_SAE and not self.transcoders
            if is_missing or (not isinstance(part, kind) and (name, part) != ("index", None)):
                raise ValueError(f"{name}={None if is_missing else part!r} is no {CALLED.get(name, kind.__name__)}: make one by {maker}")
        if isinstance(self.transcoders, CrossLayerTranscoder):
            check_cross_layer(self.model, self.transcoders)
        elif isinstance(self.transcoders, dict):  # the atlas's own are read when they are asked for
            for transcoder in self.transcoders.values():
                check_transcoder(self.model, transcoder)
        if self.sae is NO_SAE:
            return
        for sae in {id(sae): sae for sae in (self.sae, *self.saes.values())}.values():
            check_dictionary(self.model, sae)
        if self.index is not None:
            object.__setattr__(self, "index", self.index.of(self.model, self.sae))
        object.__setattr__(self, "labels", LaidOver(self.labels, self.sae.fingerprint))

    def rank(  # noqa: PLR0913 a notebook's call
        self,
        prompt: str | Chat,
        metric: Metric,
        ablate: int | None = None,
        *,
        until: str | None = None,
        confidence: float = CONFIDENCE,
        include_start: bool = False,
        progress: bool = True,
        insist: bool = False,
        precision: str = "exact",
    ) -> FeatureRanking:
        """Every active feature at every position of `prompt`, by activation, attribution and measured effect on `metric`.

        prompt: a text, or messages, [{"role": "user", "content": …}]: written out by the model's chat template, with role and turn of
        each token in the table.
        ablate=200 measures only the 200 pairs of largest |attribution|; until="top 10" as many as it takes to be certain of the ten
        largest effects to a confidence (ranking/until.py); without either all of them. insist: even where the memory that it takes is not
        there. precision="delta": faster where the device multiplies 16 bits faster, with an error that a note states (replay/delta.py).
        """
        return rank(self, prompt, metric, ablate, until, confidence, include_start, progress, insist, precision)

    def rank_many(
        self,
        prompts: Iterable[str] | Path,
        metric: Metric | Sequence[Metric],
        ablate: int | None = None,
        *,
        progress: bool = True,
        precision: str = "exact",
    ) -> RankingBatch:
        """Many prompts ranked together: each feature's mean effect with its interval, and on how many prompts it is active.

        prompts: texts, or the path of a file with one a line. metric: one for all, or one for each.
        """
        return rank_many(self, prompts, metric, ablate, progress, precision)

    def circuit(  # noqa: PLR0913 a notebook's call
        self,
        prompt: str | Chat,
        metric: Metric | None = None,
        edges: str = "measured",
        *,
        over: str = "saes",
        saes: SAEs | None = None,
        limit: int | None = None,
        labels: Mapping[str, Mapping[int, str]] | None = None,
        cancel: Event | None = None,
        progress: bool = True,
        on_rows: Callable[[int, int], None] | None = None,
        insist: bool = False,
    ) -> Circuit:
        """Which features make which, through all layers: a graph from the prompt's tokens to the answer, its edges measured.

        over="transcoders": of `transcoders` instead, with direct effects; without a metric on the likeliest answers (direct/circuit.py).
        edges: "measured" (each source switched off, every later feature read), "attributed" (first order) or "both". saes: an SAE at each
        of two hook points or more; by default `layers`. limit: only so many features, of largest |attribution|. labels: hook name →
        feature → label; by default `layer_labels`, for the SAEs of `layers`. cancel: once set, what is left is not measured. on_rows: hears
        (rows done, rows in all). insist: even where the memory that it takes is not there.
        """
        known = self._labels_of(over, saes) if labels is None else labels
        asked: dict[str, Any] = dict(limit=limit, labels=known, cancel=cancel, progress=progress, insist=insist)
        if over not in ("saes", "transcoders"):
            raise ValueError(f'over={over!r}: expected "saes" or "transcoders"')
        if over == "transcoders":
            if edges != "measured" or saes is not None:
                raise ValueError("a graph of transcoders has direct effects for edges, of bench.transcoders: leave edges= and saes= out")
            return direct_circuit(self.model, self.transcoders, prompt, metric, name=self.name, **asked)
        if metric is None:
            raise ValueError("which answer? Give a metric, such as wb.logit_diff(answer, baseline)")
        asked |= {"edges": edges, "on_rows": on_rows}
        return build_circuit(self, self.layers if saes is None else saes, prompt, metric, **asked)

    def _labels_of(self, over: str, saes: SAEs | None) -> Mapping[str, Mapping[int, str]]:
        """Hook point → labels, of the dictionaries that a circuit is drawn of: what one's features mean says nothing of another's."""
        if over == "transcoders":
            return {**self.layer_labels, **getattr(self.transcoders, "labels", {})}
        if saes is None:
            return self.layer_labels
        own = [each for each in (saes.values() if isinstance(saes, Mapping) else saes) if isinstance(each, Dictionary)]
        named = [each.reads for each in own if each.reads in self.layers and self.layers[each.reads] is each]
        return {name: labels for name, labels in self.layer_labels.items() if name in named}

    def swap(  # noqa: PLR0913 a notebook's call
        self,
        prompt: str | Chat,
        off: Members,
        on: Members,
        *,
        wanted: str | None = None,
        source: str | Sequence[str] | None = None,
        pos: int | None = None,
        saes: SAEs | None = None,
        seed: int = 0,
    ) -> Swap:
        """Switch one thing off and another on, at each place alone: does the model answer for the other?

        swap(prompt, off="state:California", on="state:Texas", source="Fact: The capital of the state where …"): features by label (of
        `layer_labels`), or as {hook name: features}. source: prompts whose last token has the "on" side's activations. wanted: the token
        to follow; by default what the model says after source. pos: where; by default the last token.
        """
        asked: dict[str, Any] = dict(wanted=wanted, source=source, pos=pos, labels=self.layer_labels, seed=seed)
        return swap(self, self.layers if saes is None else saes, prompt, off, on, **asked)

    def steer(  # noqa: PLR0913 a notebook's call: decoding's options are its own
        self,
        prompt: str | Chat,
        features: Strengths,
        max_new_tokens: int = 40,
        *,
        temperature: float = 0.0,
        n_samples: int = 1,
        seed: int = 0,
        vector: SteeringVector | None = None,
        tokens: Sequence[str] = (),
        max_act: Mapping[int, float] | None = None,
        progress: bool = True,
    ) -> Steering:
        """`prompt` continued unsteered and with features clamped to strength × max_act at every position, generated ones included.

        steer(prompt, {1234: 10.0}), or {1234: [0, 2, 5, 10]} for a continuation each and a dose–response figure. Strengths from −10 to 10
        are sane. temperature 0 is greedy. vector: `steering_vector(…)` set beside the features. tokens: whose probability to follow.
        """
        decoding = Decoding(max_new_tokens, temperature, n_samples, seed, progress=progress)
        return steer(self, written(self.model, prompt), features, decoding, vector=vector, tokens=tokens, max_act=max_act)

    def find(  # noqa: PLR0913 a notebook's call
        self,
        positive: Iterable[str] | Iterable[Chat],
        negative: Iterable[str] | Iterable[Chat] = (),
        *,
        share: float = 0.75,
        margin: float = 2.0,
        max_density: float = 0.1,
        top: int = 20,
        at_last: bool = False,
        insist: bool = False,
    ) -> Found:
        """The features that are active on the positive prompts, and on the negative ones hardly or not at all.

        share: of the positive prompts that suffices. margin: activation allowed on negative prompts, as a share of the mean over the
        positive ones; 0 asks for silence, which a feature that means the thing seldom keeps on what is near it. max_density: leave out
        what is active on a larger share of the index's tokens. at_last: count only what features do at each prompt's last token, where the
        model is about to go on. insist: even where the memory that it takes is not there. The score is in features/search.py.
        """
        filters = Filters(share, margin, max_density, top)
        return self._with_scores(
            find(self.model, self.sae, self._texts(positive), self._texts(negative), filters, self._known_beside, at_last, insist)
        )

    def find_at(self, prompt: str | Chat, token: str | SupportsIndex | None = None, *, top: int = 20, insist: bool = False) -> Found:
        """The features most active at a token of the prompt, given by its text or position; without one, anywhere on it."""
        return self._with_scores(ways.at(self.model, self.sae, written(self.model, prompt), token, self._known_beside, top, insist))

    def logit_lens(self, prompt: str | Chat, token: str | SupportsIndex | None = None, *, top: int = 5) -> LogitLens:
        """What the model would say after a token of the prompt (its text or position; None: the last one) if it stopped after each block:
        the plain logit lens, with the final norm."""
        return logit_lens(self.model, prompt, token, top=top)

    def find_by_classifier(
        self, positive: Iterable[str] | Iterable[Chat], negative: Iterable[str] | Iterable[Chat], *, top: int = 20, insist: bool = False
    ) -> Found:
        """The features by which a linear classifier tells the two sets of prompts apart, with its accuracy on prompts left out."""
        return self._with_scores(
            ways.classified(self.model, self.sae, self._texts(positive), self._texts(negative), self._known_beside, top, insist)
        )

    def find_near(self, target: SupportsIndex | Float[torch.Tensor, "d_in"] | Float[np.ndarray, "d_in"], *, top: int = 20) -> Found:
        """The features whose directions are nearest to a feature's, or to any direction of the SAE's space."""
        return self._with_scores(ways.near(self.sae, target, self._known_beside, top))

    def find_by_label(self, text: str, *, top: int = 20) -> Found:
        """The features whose label holds these words."""
        return self._with_scores(labeled(text, self.labels, self._known_beside.density, top))

    def find_parted(self, does: str = "reads", *, top: int = 20) -> Found:
        """The features that read what they are called and do not write it (does="reads"), or the reverse ("writes"), by the two scores
        that the index keeps. Raises ValueError where it keeps none."""
        return parted(does, {} if self.index is None else self.index.scores(), self.labels, self._known_beside.density, top)

    @in_words("ranking", LESS)
    def find_by_attribution(self, prompt: str | Chat, metric: Metric, *, top: int = 20, insist: bool = False) -> Found:
        """The features that support the metric most on this prompt, by attribution summed over its tokens. Nothing is ablated."""
        text = written(self.model, prompt)
        tokens = to_tokens(self.model, text)
        n_pos = tokens.shape[1]
        ranking_need(self.model.cfg, self.sae, n_pos, pairs_of(self.sae, n_pos) or 0, n_measured=0).check(tokens.device, insist)
        found = attribute(self.model, self.sae, tokens, metric)
        return self._with_scores(ways.attributed(self.model, self.sae, text, found, self._known_beside, top, insist))

    def map(self) -> FeatureMapping:
        """All features of `saes` on one map; drawn once, kept beside the index."""
        return feature_map(self.saes or {self.sae_name: self.sae}, self.index)

    def splitting(self, feature: int) -> Splitting:
        """Which features of the larger dictionaries this one becomes. Needs an index of several SAEs."""
        return splitting(self._known, feature)

    def feature(self, feature: int, with_examples: bool = True) -> FeaturePage:
        """What is known of a feature: when it is active, what it promotes, what is near it. From the index; without one, the example
        texts are read, at the first call. with_examples=False leaves the texts out, which take longest to read from an index."""
        page = self._known.feature(feature, with_examples)
        own_labels = self.own_labels
        own = own_labels.of(self.sae.fingerprint()) if self.index is None and own_labels.path.is_file() else {}  # an index knows them
        label = own.get(int(feature)) or (page.label if page.label.text else Label(self.labels.get(int(feature), "")))
        neighbors = {self.sae_name if name == page.sae_name else name: found for name, found in page.neighbors.items()}
        named = dict(sae_name=self.sae_name, model_name=self.name or page.model_name, neighbors=neighbors)
        return replace(page, label=label, **named, notes=reading_notes(self.model, self.sae))

    def label(self, feature: int, text: str) -> None:
        """What you call a feature of this SAE, from now on, wherever it is shown; "" gives back what was there before. Kept in a file of
        yours, `own_labels.path`, never beside the index or in the package."""
        if not isinstance(text, str):
            raise ValueError(f'{text!r} is no label: expected a few words, or "" for what was there before')
        label = Label(text.strip(), None, A_PERSON)
        self.own_labels.put(self.sae.fingerprint(), {checked_feature(feature, self.sae.cfg.d_sae): label})

    def unlabel(self, feature: int) -> None:
        """Takes back the last label that you gave the feature."""
        self.own_labels.undo(self.sae.fingerprint(), checked_feature(feature, self.sae.cfg.d_sae))

    @property
    def own_labels(self) -> OwnLabels:
        """Your labels, of all SAEs: .write("mine.json") to share them, .add("theirs.json") to take over others'."""
        return OwnLabels()

    def features(self, features: Iterable[int]) -> FeaturePages:
        """The pages of several features, side by side."""
        return FeaturePages([self.feature(feature) for feature in features])

    def _with_scores(self, found: Found) -> Found:
        """With both scores of each feature, where the index keeps some."""
        return found if self.index is None else with_scores(found, self.index.scores())

    def _texts(self, prompts: Any) -> Any:
        """Those that are conversations written out; what is no list of prompts is left for whoever checks them."""
        if isinstance(prompts, str) or not isinstance(prompts, Iterable):
            return prompts
        texts = no_table(prompts, "prompts")
        return [written(self.model, each) if isinstance(each, list | tuple | Mapping) else each for each in texts]

    @property
    def _known_beside(self) -> Known:
        return Known(self.labels, self._rarity, reading_notes(self.model, self.sae))

    @cached_property
    def _rarity(self) -> Rarity | None:
        """Read from the index once: 0.1 s for the atlas's."""
        return None if self.index is None else Rarity.of(self.index)

    @property
    def _known(self) -> FeatureIndex:
        if self.index is not None:
            return self.index
        if isinstance(self.examples, Examples):
            return self.examples.index
        raise ValueError("nothing is known of the features: give Workbench(…, index=build_index(model, sae, texts, folder))")

    def with_sae(self, name: str) -> "Workbench":
        """The same model seen through another of `saes`, with the labels that the index has of it. An index of this one alone stays
        behind, as this one's labels do."""
        if name not in self.saes:
            raise ValueError(f"no SAE is called {name!r} here; there is {', '.join(self.saes) or 'only the one'}")
        if self.saes[name] is self.sae:
            return self
        texts = self.examples.texts if isinstance(self.examples, Examples) else ()
        return self._through(self.saes[name], texts)

    def with_transcoder(self, layer: int) -> "Workbench":
        """The same model seen through the transcoder of a layer: its features are ranked, found, indexed, clamped and steered by, an effect
        being that of what a feature adds to the MLP's output."""
        if isinstance(self.transcoders, CrossLayerTranscoder):
            raise ValueError(
                "a feature of a cross-layer transcoder writes into several layers, which is no one place to rank or steer at: "
                'bench.circuit(prompt, metric, over="transcoders") has its features, and circuit.effect_of measures them'
            )
        if layer not in self.transcoders:
            there = ", ".join(map(str, self.transcoders)) or "none: load(…, transcoders=folder)"
            raise ValueError(f"there is no transcoder of layer {layer!r}; there are those of layers {there}")
        transcoder = self.transcoders[layer]
        return self._through(transcoder, self._example_texts, self._labels_of("transcoders", None).get(transcoder.reads, {}), saes={})

    def _through(self, sae: Dictionary, texts: Sequence[str], labels: Mapping[int, str] | None = None, **changed: Any) -> "Workbench":
        """Seen through another dictionary: with the index where it is of this one too, else with examples from texts and these labels."""
        index = self.index.of(self.model, sae) if self.index is not None and self.index.has(sae) else None
        examples = index.examples if index else Examples(self.model, sae, texts) if texts else None
        return replace(self, sae=sae, index=index, labels=index.label_texts() if index else labels or {}, examples=examples, **changed)

    @property
    def _example_texts(self) -> Sequence[str]:
        """What examples of another dictionary's features can be read from: those of this bench's, or texts that its index shows."""
        if isinstance(self.examples, Examples) or self.index is None:
            return getattr(self.examples, "texts", ())
        rows = self.index.sql("SELECT tokens FROM texts ORDER BY row LIMIT ?", N_EXAMPLE_TEXTS)["tokens"]
        return self.model.tokenizer.batch_decode([row.tolist() for row in rows])

    @property
    def sae_name(self) -> str:
        """Its name among `saes`; else its width."""
        names = [name for name, sae in self.saes.items() if sae is self.sae]
        return names[0] if names else f"{(n := self.sae.cfg.d_sae):,} feature{'s' if n > 1 else ''}"

    def facts(self) -> dict[str, str]:
        """What this bench is, in words: the rows of its repr."""
        model = self.model.cfg
        about = {
            "model": f"{self.name or model.model_name}: {model.n_layers} layers, d_model {model.d_model}, vocabulary {model.d_vocab:,}",
            "start": str(start_token(self.model)),
        }
        if isinstance(self.transcoders, CrossLayerTranscoder):
            cfg = self.transcoders.cfg
            places = f"{cfg.hook_in} → {cfg.hook_out} of this and every later layer"
            about["transcoders"] = f"cross-layer, {cfg.n_layers} layers, {cfg.d_sae:,} features each, {places}"
        elif self.transcoders:
            first = self.transcoders[min(self.transcoders)].cfg
            reads, writes = (name.split(".", 2)[-1] for name in (first.hook_name_in, first.hook_name_out))
            about["transcoders"] = f"{len(self.transcoders)} layers, {first.d_sae:,} features, {reads} → {writes}"
        if self.sae is NO_SAE:
            return about
        sae, is_one_place = self.sae, self.sae.reads == self.sae.writes
        others = [name for name, other in self.saes.items() if other is not self.sae]
        place = f"at {sae.reads}" if is_one_place else f"{sae.reads} → {sae.writes}"
        also = f" (also: {', '.join(others)})" if others else ""
        return about | {
            "SAE" if is_one_place else "transcoder": f"{sae.cfg.d_sae:,} features {place}{also}",
            "labels": f"{len(self.labels):,} features" if self.labels else "none",
            "examples": "yes" if self.examples else "none",
            "index": f"{self.index.manifest['n_tokens']:,} tokens" if self.index else "none",
            **({"note": note} if (note := "; ".join(reading_notes(self.model, self.sae))) else {}),
        }

    def __repr__(self) -> str:
        facts = self.facts()
        width = max(9, *(len(name) + 1 for name in facts))
        return "\n".join(["Workbench", *(f"  {name:<{width}}{text}" for name, text in facts.items())])

    def _repr_html_(self) -> str:
        from widgets.marks import facts_html

        return facts_html("Workbench", self.facts())
