"""Nothing that is called changes what belongs to the process: its environment, random states, threads, types, warnings, loggers."""

import logging
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_process import in_process

PROMPT = "Fact: the team of Kobe Bryant is the"
TEXTS = ["Kobe Bryant plays for the Lakers. " * 4, "Larry Bird plays for the Celtics. " * 4] * 8


def test_the_first_use_of_each_call_leaves_the_process_as_it_was():
    assert in_process(_every_call) == 0


def _every_call() -> None:
    import anywidget  # noqa: F401 warm: what an import of it sets is its own

    assert not {"sklearn", "umap", "numba"} & sys.modules.keys(), "these are to be met for the first time"
    changed = {name: what for name, what in _changed_by_each().items() if what}
    if changed:
        sys.exit(f"the process was changed by {changed}")


def _changed_by_each() -> dict[str, list[str]]:
    import widgets
    import workbench as wb
    from workbench.activations.stream import ActivationStream
    from workbench.features.survey.mapping import feature_map
    from workbench.sae.training.train import train

    found: dict[str, list[str]] = {}

    def call(name: str, run: Callable[[], Any]) -> Any:
        before = _state()
        result = run()
        found[name] = [what for what, value in _state().items() if value != before[what]]
        return result

    bench = call("load", lambda: wb.load("atlas"))
    metric, small = wb.logit_diff(" Lakers", " Celtics"), bench.saes["1k"]
    ranking = call("rank", lambda: bench.rank(PROMPT, metric, ablate=8, progress=False))
    call("show", lambda: ranking._repr_html_())
    call("find", lambda: bench.find([PROMPT, "Kobe Bryant plays for the"], ["Larry Bird plays for the"]))
    call("find_by_classifier", lambda: bench.find_by_classifier([PROMPT, "Kobe Bryant plays"], ["Larry Bird plays", "The capital is"]))
    call("steer", lambda: bench.steer(PROMPT, {574: 2.0}, max_new_tokens=3, temperature=1.0, n_samples=2, progress=False))
    call("page", lambda: bench.feature(574)._repr_html_())
    call("circuit", lambda: bench.circuit("Kobe Bryant plays for the", metric, over="transcoders", limit=5, progress=False))
    call("index", lambda: wb.build_index(bench.model, {"small": small}, TEXTS, Path(tempfile.mkdtemp()) / "index", progress=False))
    call("map", lambda: feature_map({"small": small}))
    call("evaluate", lambda: wb.evaluate(bench.model, small, TEXTS[:2], progress=False))
    stream = call("stream", lambda: ActivationStream(bench.model, TEXTS, small.cfg.hook_name, batch=64, buffer=512))
    call("train", lambda: train(stream, wb.TrainConfig(d_sae=64, n_steps=2, architecture="topk", k=4), progress=False))
    call("pane", lambda: widgets.CardPane(bench, feature=574))
    return found


def _state() -> dict[str, Any]:
    loggers = {name: each.level for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "random": random.getstate(),
        "numpy's generator": repr(np.random.get_state()),
        "torch's generator": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "default dtype": torch.get_default_dtype(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "warnings": [(action, str(message), kind, str(module), line) for action, message, kind, module, line in warnings.filters],
        "loggers": (logging.root.level, logging.root.manager.disable, {name: level for name, level in loggers.items() if level}),
    }
