"""An index read by Ray workers has the files that one process writes, also when a worker dies."""

import os
import random
from pathlib import Path

import pytest
from made_models import random_sae

from workbench.features.index.index import build_index
from workbench.sae.sae import SAE

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'circuit-workbench[ray]' to run these tests")
pytestmark = pytest.mark.slow
TEXTS = [" ".join(random.Random(i).choices("the cat sat on mat and dog ran to".split(), k=20)) for i in range(12)]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_workers_write_the_same_files_and_a_dead_one_s_shard_is_read_again(model, tmp_path: Path):
    flag = tmp_path / "die"

    class Mortal(SAE):
        """Ends the first worker that encodes with it."""

        def encode(self, x):
            if flag.exists():
                flag.unlink()
                os._exit(1)
            return super().encode(x)

    sae = random_sae()
    mortal = Mortal(sae.cfg).requires_grad_(False)
    mortal.load_state_dict(sae.state_dict())
    build_index(model, sae, TEXTS, tmp_path / "one", shard=300, progress=False)
    flag.touch()
    build_index(model, mortal, TEXTS, tmp_path / "several", shard=300, workers=2, progress=False)
    assert not flag.exists(), "no worker died"
    assert contents(tmp_path / "several") == contents(tmp_path / "one")
