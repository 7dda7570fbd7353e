"""One model in several threads: each call returns what it returns alone. WORKBENCH_THREAD_SECONDS=60 makes it a long watch."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from made_models import n_hooks, random_sae
from made_threads import calls_of, side_by_side

import widgets
import workbench as wb

SECONDS = float(os.environ.get("WORKBENCH_THREAD_SECONDS", "0"))
SHORT = ("plain", "run_with_cache", "clamp", "rank", "steer", "find")
KOBE = "Fact: the team of Kobe Bryant is the"


def watched(bench: Any, calls: dict[str, Callable]) -> None:
    calls = calls if SECONDS else {name: calls[name] for name in (*SHORT, "pane") if name in calls}
    bench.model("the")  # what the bridge wires at its first pass stays
    before = n_hooks(bench.model)
    seen = side_by_side(calls, SECONDS)
    print(seen)  # to be read with pytest -s
    assert not seen.errors and not seen.others
    assert n_hooks(bench.model) == before
    assert {"plain", "run_with_cache", "clamp", "rank"} <= {name for name, n in seen.n_calls.items() if n == seen.n_equal[name] > 0}


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_cells_and_panes_on_one_model_return_what_they_return_alone(model_of, family: str):
    bench = wb.Workbench(model=model_of(family), sae=random_sae())
    watched(bench, calls_of(bench, "the cat sat on the", wb.logit_diff(" mat", " dog"), steered=3))


def test_so_they_do_on_the_atlas_with_a_circuit_and_a_pane():
    bench = wb.load("atlas")
    metric = wb.logit_diff(" Lakers", " Celtics")
    calls = calls_of(bench, KOBE, metric, steered=574)
    if SECONDS:
        calls["circuit"] = lambda: bench.circuit(KOBE, metric, limit=10, progress=False).nodes
    watched(bench, calls | {"pane": paned(bench)})


def paned(bench: wb.Workbench) -> Callable[[], Any]:
    """A prompt's view, which ranks on a thread of its own."""

    def ranked() -> Any:
        pane = widgets.PromptPane(bench, prompt=KOBE, answer=" Lakers", baseline=" Celtics")
        assert pane.run().wait(120).stage == "done", pane.progress
        pane.close()
        return pane.ranking.table

    return ranked
