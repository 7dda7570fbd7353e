"""circuit-tracer's `attribute` on the files that circuit_peer.py wrote; run by the Python of the peer's environment, without workbench.

    PEER_PYTHON benchmarks/peer_attribute.py FOLDER BATCH RUNS TOKEN TOKEN …

The last line printed is JSON: CPU seconds, gigabytes beyond the weights, the tokens read, versions. The graph is left in FOLDER as .npy:
peer_features (n, 3) of layer, pos, feature, peer_logits, peer_edges [target, source] in the order of circuit-tracer's Graph.
"""

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

WARM_UP = 4  # tokens of a first graph, so that what is set up once a process counts on no side


def main(folder: Path, batch: int, n_runs: int, tokens: list[int]) -> None:
    os.chdir(folder)  # TransformerLens takes a folder for a model only if it is called what the model is: "gpt2", in this folder
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    import huggingface_hub.constants
    import numpy as np

    if not hasattr(huggingface_hub.constants, "HF_HUB_ENABLE_HF_TRANSFER"):  # gone in huggingface-hub 1.0; circuit-tracer reads it
        huggingface_hub.constants.HF_HUB_ENABLE_HF_TRANSFER = False  # pyright: ignore
    from circuit_tracer import ReplacementModel, attribute  # pyright: ignore
    from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set  # pyright: ignore

    paths = {layer: f"transcoders/layer_{layer}.safetensors" for layer in range(len(list(Path("transcoders").glob("*.safetensors"))))}
    places = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out"}
    kept = {"device": torch.device("cpu"), "lazy_encoder": False, "lazy_decoder": False}  # all weights in memory before the clock starts
    transcoders = load_transcoder_set(paths, "benchmark", **places, **kept)
    model = ReplacementModel.from_pretrained_and_transcoders("gpt2", transcoders, device=torch.device("cpu"))
    attribute(torch.tensor(tokens[:WARM_UP]), model, batch_size=batch)
    graph, seconds, gigabytes = measured(lambda: attribute(torch.tensor(tokens), model, batch_size=batch, max_feature_nodes=None), n_runs)
    np.save("peer_features.npy", graph.active_features.numpy())
    np.save("peer_logits.npy", graph.logit_token_ids.numpy())
    np.save("peer_edges.npy", graph.adjacency_matrix.numpy())
    names = "circuit-tracer", "transformer-lens", "transformers", "huggingface-hub", "torch"
    found = {"seconds": seconds, "gigabytes": gigabytes, "tokens": graph.input_tokens.tolist()}
    print(json.dumps(found | {"versions": [f"{name} {version(name)}" for name in names]}))


def measured(work: Callable[[], Any], n_runs: int = 1) -> tuple[Any, float, float]:
    """(what it gives, CPU seconds of this process, gigabytes that its peak takes beyond what was there before). Linux. Of several runs the
    first says the memory, and the fastest the time: the others find the allocator's memory in place, as in a session."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps of earlier work would be hidden from the difference
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, begin = _status("VmRSS"), time.process_time()
    result = work()
    seconds = [time.process_time() - begin]
    gigabytes = (_status("VmHWM") - before) / 1e9
    for _ in range(n_runs - 1):
        del result
        begin = time.process_time()
        result = work()
        seconds.append(time.process_time() - begin)
    return result, min(seconds), gigabytes


def _status(name: str) -> int:
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__" and len(sys.argv) > 1:
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [int(token) for token in sys.argv[4:]])
