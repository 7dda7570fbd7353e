"""Steering by hand: features with a slider each, and what the model writes with them beside what it writes without.

    pane = SteeringPane(bench, prompt="I feel", strengths={1234: 5.0})
    pane.run().wait(); pane.result                          the Steering that bench.steer gives

strength × max_act is what a feature is clamped to, at every position (workbench/circuits/steering/steering.py).
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import traitlets

from widgets.html.act import next_token_table, steering_html
from widgets.marks import FAINT, visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import WorkingPane, module, style
from workbench.circuits.evidence.reference import largest_on, usual_norm
from workbench.circuits.steering.continuations import round_down, safe_strength
from workbench.circuits.steering.generation import Decoding
from workbench.circuits.steering.steering import steer

N_NEXT = 8  # tokens of the table
READABLE = 0.5  # of the activation's norm: perplexity stays the model's own up to 0.6 of it (docs/log.md)
FIRST = 1.0  # strength of a slider until more is known: the feature's own largest activation


class SteeringPane(WorkingPane):
    """Sliders of strength, and the text under them beside the unsteered one."""

    _esm = module("shared/copy", "steering/steering")
    _css = style("steering/steering")
    actions = ("run", "cancel", "add")
    kept = ("feature", "prompt", "strengths", "max_new_tokens", "temperature", "seed")
    maker = "SteeringPane(bench)"

    prompt = traitlets.Unicode("").tag(sync=True)
    strengths = traitlets.Dict(key_trait=traitlets.CInt(), value_trait=traitlets.CFloat(), help="feature → strength, −10 to 10").tag(
        sync=True
    )
    max_new_tokens = traitlets.Int(24, min=1).tag(sync=True)
    temperature = traitlets.Float(0.0, min=0.0, help="0: greedy").tag(sync=True)
    seed = traitlets.Int(0, min=0).tag(sync=True)

    n_features = traitlets.Int(read_only=True).tag(sync=True)
    about = traitlets.Dict(read_only=True, help="label and largest activation of the selection and of what has a slider").tag(sync=True)
    view = traitlets.Dict(read_only=True, help="what the last run gave").tag(sync=True)

    def __init__(self, bench: Any, **traits: Any):
        self._bench, self.result = bench, None
        self._asking: Job | None = None
        self._norm: float | None = None  # of the activations that are steered, once it was asked for
        super().__init__(bench.model, **traits)
        self.set_trait("n_features", bench.sae.cfg.d_sae)
        self._describe()

    def work(self, job: Job) -> None:
        chosen = {name: getattr(self, name) for name in ("prompt", "strengths", "max_new_tokens", "temperature", "seed")}
        if not chosen["strengths"]:
            raise ValueError("no feature has a slider yet: add one")
        options = {name: chosen[name] for name in ("max_new_tokens", "temperature", "seed")}
        decoding = Decoding(**options, cancel=job.event, progress=False, on_token=job.tell)
        largest = largest_on(self._bench, chosen["prompt"], chosen["strengths"])
        result = steer(self._bench, chosen["prompt"], dict(chosen["strengths"]), decoding, max_act=largest)
        view = steering_view(result)
        view["notes"] += [
            f"strength 1 of feature {feature} is its largest activation on this prompt, {most:.3g}: no other text here tells one"
            for feature, most in largest.items()
        ]
        with SETTING:
            self.result, self._norm = result, result.x_norm
            self.set_trait("view", {**view, "chosen": chosen | {"strengths": _texts(chosen["strengths"])}})
            self._describe()

    def add(self) -> None:
        """Gives the selection a slider; it starts where texts usually stay readable."""
        if self.feature is not None:
            self.give(self.feature)

    def give(self, feature: int) -> None:
        """A slider for the feature, where it has none."""
        if feature in self.strengths:
            return
        limit = self._limit(feature)
        self.strengths = {**self.strengths, feature: FIRST if limit is None else limit}
        if limit is None:  # the model has to be asked: when it has answered, an untouched slider moves there
            self._ask_norm(feature)

    def _ask_norm(self, feature: int) -> None:
        def work(job: Job) -> None:
            norm = usual_norm(self._bench)
            with SETTING:
                if job.is_cancelled:
                    return
                self._norm = norm
                self._describe()
                limit = self._limit(feature)
                if limit is not None and dict[Any, Any](self.strengths).get(feature) == FIRST:
                    self.strengths = {**self.strengths, feature: limit}

        self._asking = Job(work, self._bench.model, lambda progress: None)

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        super().close()

    def _limit(self, feature: int) -> float | None:
        """Up to which strength texts usually stay readable, in steps of the slider; None where that is not known (yet)."""
        max_act = self._max_act(feature)
        if self._norm is None or not max_act:
            return None
        return round_down(safe_strength(READABLE * self._norm, max_act * float(self._bench.sae.W_dec[feature].norm())))

    def _max_act(self, feature: int) -> float | None:
        known = self.result.max_act if self.result else {}
        return known.get(feature, self._max_acts[feature] if feature < len(self._max_acts) else None)

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("do") == "give":
            feature = content.get("feature")
            if isinstance(feature, int) and 0 <= feature < self.n_features:
                self.give(feature)
        else:
            super()._hear(_, content, buffers)

    @traitlets.validate("strengths")
    def _check(self, proposal: Any) -> Mapping[int, float]:
        wrong = [feature for feature in proposal["value"] if not 0 <= feature < self._bench.sae.cfg.d_sae]
        if wrong:
            raise traitlets.TraitError(f"feature {wrong[0]} is out of range: this SAE has features 0 to {self._bench.sae.cfg.d_sae - 1:,}")
        return proposal["value"]

    @traitlets.observe("strengths", "feature")
    def _describe(self, change: Any = None) -> None:
        features = [*self.strengths, *([] if self.feature is None else [self.feature])]
        self.set_trait("about", {str(feature): self._facts(feature) for feature in features})

    def relabel(self) -> None:
        """What has a slider, called as it is now."""
        self._describe()

    def _facts(self, feature: int) -> dict[str, Any]:
        """What is known without computing anything."""
        return {"label": visible(self._bench.labels.get(feature, "")), "max_act": self._max_act(feature), "limit": self._limit(feature)}

    @cached_property
    def _max_acts(self) -> list[float]:
        """By feature, where an index knows them."""
        return [] if self._bench.index is None else self._bench.index.table.sort_values("feature")["max_act"].tolist()

    def static_html(self) -> str:
        return steering_html(self.result) if self.result else f'<div style="{FAINT}">{repr(self)}: not run yet</div>'

    def __repr__(self) -> str:
        steered = ", ".join(f"{feature} × {strength:g}" for feature, strength in self.strengths.items())
        return f"SteeringPane: {steered or 'no feature yet'}"


def steering_view(result: Any) -> dict[str, Any]:
    """A Steering of one setting, as plain data for the page."""
    tokens, columns = next_token_table(result, N_NEXT)
    return {
        "prompt": visible(result.prompt),
        "texts": [
            {
                "name": "unsteered" if each.setting.kind == "unsteered" else "steered",
                "about": "" if each.setting.kind == "unsteered" else each.setting.name,
                "tokens": [visible(token) for token in each.str_tokens],
                "activations": [round(float(value), 4) for value in each.activations],
                "perplexity": each.perplexity if each.str_tokens else None,
                "activation": each.activation if each.activations else None,
            }
            for each in result.continuations
        ],
        "scale": max((max(each.activations, default=0.0) for each in result.continuations), default=0.0),
        "next": [{"token": visible(token), "values": [column.get(token) for column in columns.values()]} for token in tokens],
        "notes": [visible(note) for note in result.notes],
    }


def _texts(strengths: Mapping[int, float]) -> dict[str, float]:
    return {str(feature): strength for feature, strength in strengths.items()}
