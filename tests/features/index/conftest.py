"""One index of two SAEs, built once for each file of tests."""

import pytest
from made_index import TEXTS, made_saes

from workbench.features.index.index import FeatureIndex, build_index
from workbench.sae.sae import SAE


@pytest.fixture(scope="module")
def model(model_of):
    return model_of("gpt2")


@pytest.fixture(scope="module")
def saes() -> dict[str, SAE]:
    return made_saes()


@pytest.fixture(scope="module")
def index(model, saes, tmp_path_factory) -> FeatureIndex:
    return build_index(model, saes, TEXTS, tmp_path_factory.mktemp("index"), progress=False)
