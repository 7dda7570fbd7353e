"""Is anything slower than in an earlier build, and what became faster? Both in one run, part by part, in turns.

    python benchmarks/builds.py FOLDER [--parts ablation …] [--rounds 3]

FOLDER: a checkout of the earlier build (`git worktree add FOLDER COMMIT`), whose own settings in benchmarks/ are used, too, as far back as
0d2974c. Each build is a process of its own with one thread; a part is the least of its CPU seconds, run for ENOUGH of them in each round
(other work on the machine only adds), beside the same matrix product in both, whose ratio says how far from 1 is noise.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
ENOUGH = 2.0  # CPU seconds of a part in a round
N_PAIRS = int(os.environ.get("N_PAIRS", "200"))


def ablation(n_tokens: int) -> Callable[[], Any]:
    from setting import random_setting

    try:
        from workbench.circuits.ranking.ablation import ablate
        from workbench.circuits.ranking.attribution import attribute
    except ImportError:
        from workbench.circuits.ablation import ablate  # type: ignore[import-not-found]
        from workbench.circuits.attribution import attribute  # type: ignore[import-not-found]
    import torch

    s = random_setting(n_tokens, 6)
    pairs = attribute(s.model, s.sae, s.tokens, s.metric).pairs
    some = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:N_PAIRS]]
    precision: dict[str, Any] = {"precision": "delta"} if PART.startswith("delta") and BUILD == "now" else {}
    return lambda: ablate(s.model, s.sae, s.tokens, s.metric, some, progress=False, **precision)


def attribution() -> Callable[[], Any]:
    from setting import random_setting

    try:
        from workbench.circuits.ranking.attribution import attribute
    except ImportError:
        from workbench.circuits.attribution import attribute  # type: ignore[import-not-found]
    s = random_setting(32, 6)
    return lambda: attribute(s.model, s.sae, s.tokens, s.metric)


def ranking() -> Callable[[], Any]:
    import workbench as wb

    bench, prompt = wb.load("atlas"), "Fact: The capital of the state where Kobe Bryant played basketball is"
    return lambda: bench.rank(prompt, wb.logit_diff(" Sacramento", " Albany"), progress=False)


def rankings() -> Callable[[], Any]:
    import workbench as wb

    bench, metric = wb.load("atlas"), wb.logit_diff(" Sacramento", " Albany")
    names = ("Kobe Bryant", "John Stockton", "Magic Johnson", "Larry Bird", "Tim Duncan", "Jerry West")
    prompts = [f"Fact: The capital of the state where {name} played basketball is" for name in names] * 6
    many = getattr(bench, "rank_many", lambda prompts, metric, progress: [bench.rank(each, metric, progress=False) for each in prompts])
    return lambda: many(prompts, metric, progress=False)


def on_the_atlas(what: str) -> Callable[[], Any]:
    import workbench as wb

    bench, prompt = wb.load("atlas"), "Fact: The capital of the state where Kobe Bryant played basketball is"
    named = [prompt.replace("Kobe Bryant", name) for name in ("John Stockton", "Magic Johnson", "Larry Bird")]
    assert bench.index is not None
    feature = int(bench.index.table["max_act"].idxmax())
    return {
        "a search": lambda: bench.find([prompt, *named], ["The cat sat on the mat.", "2 + 2 = 4", "def add(a, b):"]),
        "a search by classifier": lambda: bench.find_by_classifier([prompt, *named] * 3, ["The cat sat on the mat.", "2 + 2 = 4"] * 6),
        "a steered text": lambda: bench.steer(prompt, {feature: 1.0}, 20, progress=False),
        "a feature's page": lambda: bench.feature(feature)._repr_html_(),
        "evaluation": lambda: wb.evaluate(bench.model, bench.sae, [prompt, *named] * 16, progress=False),
    }[what]


ON_THE_ATLAS = ("a search", "a search by classifier", "a steered text", "a feature's page", "evaluation")


def sae_step(d_in: int, d_sae: int, architecture: str) -> Callable[[], Any]:
    from sae_step import Sparse, planted

    return Sparse(*planted(d_in, d_sae, architecture)).step


def harvest() -> Callable[[], Any]:
    import harvest
    import torch

    model = harvest.gpt2(torch.float32)
    texts = harvest.documents(64)
    return lambda: harvest.streamed(model, texts, "blocks.6.hook_resid_pre", 128)


def index() -> Callable[[], Any]:
    import tempfile

    import index

    s = index.made(4096, 8192, 3, 6)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            index.build_index(s.model, s.sae, s.texts, Path(folder) / "index", progress=False)

    return run


def product() -> Callable[[], Any]:
    import torch

    x, weight = torch.randn(1024, 768), torch.randn(3072, 768)
    return lambda: [torch.nn.functional.linear(x, weight) for _ in range(10)]


PARTS: dict[str, Callable[[], Callable[[], Any]]] = {
    "product": product,
    "ablation": lambda: ablation(32),
    "delta": lambda: ablation(32),
    "delta at 120 tokens": lambda: ablation(120),
    "ablation at 120 tokens": lambda: ablation(120),
    "attribution": attribution,
    "ranking on the atlas": ranking,
    "36 rankings on the atlas": rankings,
    **{f"{what} on the atlas": partial(on_the_atlas, what) for what in ON_THE_ATLAS},
    "SAE step 768 → 16,384": lambda: sae_step(768, 16_384, "standard"),
    "SAE step 768 → 16,384 TopK": lambda: sae_step(768, 16_384, "topk"),
    "harvest": harvest,
    "index": index,
}
BUILD = PART = ""


def child(build: str) -> None:
    """Answers each line on stdin, the name of a part, with its seconds of CPU; made ready and run once at its first."""
    import torch

    global BUILD, PART
    BUILD = build
    torch.set_num_threads(1)
    ready: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        PART = line.strip()
        if PART not in ready:
            ready.clear()  # one part's models at a time
            ready[PART] = PARTS[PART]()
            ready[PART]()
        taken: list[float] = []
        while sum(taken) < ENOUGH:
            start = time.process_time()
            ready[PART]()
            taken.append(time.process_time() - start)
        print("\n" + json.dumps({"seconds": min(taken)}), flush=True)


def asked(process: "subprocess.Popen[str]", part: str) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(part + "\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith('{"seconds"'):
            return json.loads(line)["seconds"]
    raise RuntimeError(f"{part} broke off")


def started(build: str, tree: Path) -> "subprocess.Popen[str]":
    env = os.environ | {"PYTHONPATH": f"{tree}:{tree / 'benchmarks'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"import runpy; runpy.run_path({str(Path(__file__))!r}, run_name='child')['child']({build!r})"]
    return subprocess.Popen(command, cwd=tree, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a checkout of an earlier build; without it, this one beside itself")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=N_PAIRS, help="of the 2,047; fixed costs weigh ten times as much in 200")
    options = parser.parse_args()
    os.environ["N_PAIRS"] = str(options.pairs)  # the children's
    builds = {"before": started("before", (options.folder or HERE).resolve()), "now": started("now", HERE)}
    print(f"{'':<38}{'before':>10}{'now':>10}   before / now")
    for part in options.parts:
        taken: dict[str, list[float]] = {name: [] for name in builds}
        for _ in range(options.rounds):
            for name, process in builds.items():
                taken[name].append(asked(process, part))
        before, now = (min(taken[name]) for name in builds)
        print(f"{part:<38}{before:>9.2f}s{now:>9.2f}s{before / now:>12.2f} ×", flush=True)
    for process in builds.values():
        process.kill()


if __name__ == "__main__":
    main()
