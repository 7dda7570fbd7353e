"""Is the workbench right on this architecture? One line for each name in TransformerLens's own table, on a tiny random checkpoint.

    python benchmarks/architectures.py [--only NAME …] [--seconds 240]

Each checkpoint is written to a folder as a user would have it and read by `load_model`. The reference is the Hugging Face model of the
same folder with one forward hook of torch's own and one whole pass for every edit: nothing of the bridge, nothing of ours. Figures are
the largest difference, in parts of the largest effect (rank), of the largest change that the edits make (clamp), of the median norm
(stream), of the largest gradient (attribution), of the largest logit. An architecture is exact where all are below LIMIT and steering
writes the same tokens with the KV cache as without; refused where `load_model` or the first question says in a ValueError what it does
not do; anything else is a fault.

Each runs in a process of its own with a time limit, so that none stops the others. The whole table takes about 20 minutes of one core.
"""

import argparse
import importlib
import multiprocessing
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from architecture_trial import Trial, trial
from tiny_configs import VARIANTS

BEFORE = "116 exact (77 prefix, 23 whole, 16 forward) of 154 configurations in the build of 28 November 2026"


def _child(connection: Any, architecture: str, variant: str) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        connection.send(trial(architecture, variant))


def in_a_process(architecture: str, variant: str, seconds: float) -> Trial:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, architecture, variant))
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(seconds) else Trial(words=f"no result within {seconds:.0f} s")
    except EOFError:
        found = Trial(words="the process died")
    process.terminate()
    process.join()
    return found


def main() -> None:
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    for name in ("workbench.bench", "workbench.circuits.depth.heads"):  # once, before the forks
        importlib.import_module(name)

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(SUPPORTED_ARCHITECTURES), help="architectures by name")
    parser.add_argument("--seconds", type=float, default=240, help="for each, wall clock")
    options = parser.parse_args()
    cases = [(name, variant) for name in options.only for variant in ("", *VARIANTS.get(name, {}))]
    verdicts: Counter[str] = Counter()
    for name, variant in cases:
        found = in_a_process(name, variant, options.seconds)
        verdicts[found.verdict] += 1
        if found.verdict == "exact":
            verdicts[found.way] += 1
        print(f"{f'{name} {variant}':<48} {found}", flush=True)
    ways = ", ".join(f"{verdicts[way]} {way}" for way in ("prefix", "whole", "forward"))
    print(f"\n{len(cases)} configurations of {len(options.only)} names: {verdicts['exact']} exact ({ways}), {verdicts['refused']} refused,")
    print(f"{verdicts['fault']} faults, {verdicts['not made']} not made. Before: {BEFORE}")


if __name__ == "__main__":
    main()
