"""A bench of two SAEs with an index, and the explorer on it."""

import pytest
from made_models import TEXT, random_sae

from widgets import explore
from workbench.bench import Workbench
from workbench.features.index.index import build_index

PROMPT = "the cat sat on the"
TEXTS = [TEXT, "the dog sat", "a cat and the mat"]


@pytest.fixture(scope="session")
def bench(model_of, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    saes = {"a": random_sae(), "b": random_sae("blocks.2.hook_resid_pre")}
    index = build_index(model_of("gpt2"), saes["a"], TEXTS, tmp_path_factory.mktemp("index"), progress=False)
    return Workbench(model=model_of("gpt2"), sae=saes["a"], saes=saes, index=index, labels={3: "three"})


@pytest.fixture
def explorer(bench: Workbench):
    made = explore(bench, PROMPT, " mat", " dog")
    assert made.pane["prompt"]._job.wait(60).stage == "done"
    yield made
    made.close()
