"""Hub ids: only the files of one SAE are fetched, and never where a path exists."""

from pathlib import Path

import pytest
import torch
from foreign_saes import D_IN, saelens_6

from workbench.sae.config import SAEError
from workbench.sae.sae import SAE


@pytest.fixture
def x() -> torch.Tensor:
    return 3 * torch.randn(40, D_IN, generator=torch.Generator().manual_seed(5))


def test_a_hub_id_fetches_the_files_of_one_sae_only(tmp_path: Path, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    case, asked = saelens_6(tmp_path / "layer_3"), []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, allow_patterns: asked.append((repo, allow_patterns)) or tmp_path)
    torch.testing.assert_close(SAE.load("owner/some-saes:layer_3")(x), case.forward(x), atol=2e-5, rtol=1e-5)
    ((repo, patterns),) = asked
    assert repo == "owner/some-saes" and "layer_3/sae_weights.safetensors" in patterns and "layer_3/cfg.json" in patterns
    assert all(pattern.startswith("layer_3/") and "*" not in pattern for pattern in patterns)
    with pytest.raises(SAEError, match="owner/some-saes on the hub has no folder 'layer_9' with an SAE in it"):
        SAE.load("owner/some-saes:layer_9")


def test_a_path_that_exists_never_asks_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saelens_6(tmp_path / "owner")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").rename(tmp_path / "name")
    (tmp_path / "owner").mkdir()
    (tmp_path / "name").rename(tmp_path / "owner" / "name")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: pytest.fail("asked the hub"))
    assert SAE.load("owner/name").cfg.d_in == D_IN
    for nowhere in ("a/b/c", "./owner/other", "nowhere"):
        with pytest.raises(SAEError, match="no such folder, and no hub id either"):
            SAE.load(nowhere)


def test_an_unknown_hub_id_fails_in_one_sentence_without_a_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        SAEError, match="'owner/unheard-of' is not a path here, and as a hub id it cannot be fetched: the hub cannot be"
    ) as caught:
        SAE.load("owner/unheard-of")
    assert "\n" not in str(caught.value)
