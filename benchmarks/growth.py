"""How do time and memory grow? Each verb at 1, 2, 4, 8 times the tokens, features, texts and layers; the exponent of the last doubling.

    python benchmarks/growth.py [--verbs rank …] [--axes tokens …] [--factors 1 2 4 8] [--kept FILE]
                                [--rounds 1] [--picture docs/growth.svg]

A point is a process of its own: a random GPT-2 of width 64, TopK dictionaries with 32 active features a token, one thread. Its time is CPU
seconds of the call, after one on four tokens that loads what is loaded once; its memory the peak of resident memory beyond what the process
held before. Exponent e: the last doubling made it 2^e times as much. Beside it what is expected, with the reason in EXPECTED; what lies
more than a quarter above is marked. A slope below what is expected is a constant part that has not been outgrown yet.
"""

import argparse
import base64
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import READ, K, Setting, resident

from widgets.figures.svg_log import Curve, loglog_svg
from workbench.activations.stream import ActivationStream
from workbench.bench import Workbench
from workbench.features.index.index import build_index
from workbench.files import write_text
from workbench.sae.evaluate import evaluate
from workbench.sae.training.train import TrainConfig, train

BASE = {"tokens": 64, "features": 4096, "texts": 64, "layers": 2}
OWN = {"circuit": {"tokens": 8}}  # of 512 tokens it would hold 151 million edges, 33 GB, and says so
EXPECTED = {  # verb → axis → (time, memory)
    # a pair's pass goes through the positions from its own on: pairs × positions; through the blocks after the first: 7 to 15 of them
    "rank": {"tokens": (2.0, 2.0), "features": (1.0, 1.0), "layers": (1.1, 1.0)},
    # so many pairs as it takes, whatever there are; each still goes through its later positions
    "rank until top 10": {"tokens": (2.0, 2.0), "features": (1.0, 1.0), "layers": (1.1, 1.0)},
    # sources × later positions; edges: sources × targets, in layers as in tokens
    "circuit": {"tokens": (2.0, 2.0), "features": (1.0, 1.0), "layers": (2.0, 2.0)},
    "find": {"texts": (1.0, 1.0), "tokens": (1.0, 1.0), "features": (1.0, 1.0)},
    # neighbors: features × features, in blocks
    "index": {"texts": (1.0, 1.0), "tokens": (1.0, 1.0), "features": (2.0, 1.0)},
    "train": {"texts": (1.0, 0.5), "features": (1.0, 1.0)},
    "evaluate": {"texts": (1.0, 0.5), "tokens": (1.0, 1.0), "features": (1.0, 1.0)},
}
ABOVE = 0.25
SIZE, LEGEND = (460, 300), 30  # of a panel; above them all
COLORS = ("240,115,20", "160,132,245", "40,150,110", "200,60,90", "70,130,220", "140,110,40", "120,120,120")
BATCH = 512  # tokens of a training step


def ranking(s: Setting, sizes: dict[str, int], until: str | None = None) -> Callable[[int], Any]:
    bench = s.bench()
    return lambda n: bench.rank(s.text(n or sizes["tokens"]), s.metric, until=until, progress=False)


def circuit(s: Setting, sizes: dict[str, int]) -> Callable[[int], Any]:
    saes = [s.jumprelu(name) for name in s.hooks]
    bench = Workbench(s.model, saes[0])
    return lambda n: bench.circuit(s.text(n or sizes["tokens"]), s.metric, saes=saes, progress=False)


def find(s: Setting, sizes: dict[str, int]) -> Callable[[int], Any]:
    bench = s.bench()

    def run(n: int) -> Any:
        texts = s.texts(n or sizes["texts"], sizes["tokens"])
        return bench.find(texts[::2], texts[1::2])

    return run


def index(s: Setting, sizes: dict[str, int]) -> Callable[[int], Any]:
    sae = s.sae()

    def run(n: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return build_index(s.model, sae, s.texts(n or sizes["texts"], sizes["tokens"]), folder, progress=False)

    return run


def training(s: Setting, sizes: dict[str, int]) -> Callable[[int], Any]:
    def run(n: int) -> Any:
        n_steps = (n or sizes["texts"]) // 4
        stream = ActivationStream(s.model, s.texts(2 * n_steps * BATCH // sizes["tokens"], sizes["tokens"]), READ, BATCH, 8 * BATCH)
        return train(stream, TrainConfig(sizes["features"], n_steps, architecture="topk", k=K), progress=False)

    return run


def evaluation(s: Setting, sizes: dict[str, int]) -> Callable[[int], Any]:
    sae = s.sae()
    return lambda n: evaluate(s.model, sae, s.texts(n or sizes["texts"], sizes["tokens"]), progress=False)


VERBS: dict[str, Callable[[Setting, dict[str, int]], Callable[[int], Any]]] = {
    "rank": ranking,
    "rank until top 10": lambda s, sizes: ranking(s, sizes, "top 10"),
    "circuit": circuit,
    "find": find,
    "index": index,
    "train": training,
    "evaluate": evaluation,
}


def point(verb: str, sizes: dict[str, int], rounds: int) -> str:
    """seconds and peak of one verb at one size, in this process."""
    torch.set_num_threads(1)
    setting = Setting(argparse.Namespace(tokens=sizes["tokens"], features=sizes["features"], layers=sizes["layers"]))
    run = VERBS[verb](setting, sizes)
    run(4)
    Path("/proc/self/clear_refs").write_text("5")
    before, taken, peak = resident("VmRSS"), [], 0
    for _ in range(rounds):
        start = time.process_time()
        run(0)
        taken.append(time.process_time() - start)
        peak = peak or max(0, resident("VmHWM") - before)  # of the first
    return json.dumps([min(taken), peak])


def base(verb: str) -> dict[str, int]:
    """What 1 × is."""
    return BASE | OWN.get(verb, {})


def measured(verb: str, axis: str, factors: list[int], rounds: int) -> list[tuple[float, float]]:
    """(CPU seconds, peak bytes) at each factor."""
    found = []
    for factor in factors:
        sizes = json.dumps(base(verb) | {axis: base(verb)[axis] * factor})
        command = [sys.executable, __file__, "--point", verb, sizes, "--rounds", str(rounds)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{verb} at {sizes}: {(ran.stderr.strip().splitlines() or ['killed'])[-1]}")
        found.append(tuple(json.loads(ran.stdout.splitlines()[-1])))
    return found


def exponent(values: list[float], factors: list[int]) -> float:
    """Of the last step."""
    return math.log(max(values[-1], 1e-9) / max(values[-2], 1e-9)) / math.log(factors[-1] / factors[-2])


def main() -> None:
    options = arguments()
    if options.point:
        print(point(options.point[0], json.loads(options.point[1]), options.rounds))
        return
    factors, curves = options.factors, {}
    head = f"{'exponent':>9}{'expected':>9}"
    print(f"{'':<18}{'':<10}{'seconds at ' + ', '.join(f'{f} ×' for f in factors):<34}{head}{'peak, MB':>12}{head}")
    for verb in options.verbs:
        for axis, (of_time, of_memory) in EXPECTED[verb].items():
            if axis not in options.axes:
                continue
            seconds, peaks = map(list, zip(*measured(verb, axis, factors, options.rounds), strict=True))
            curves[verb, axis] = seconds
            slopes = exponent(seconds, factors), exponent(peaks, factors)
            marks = ["  above" if slope > expected + ABOVE else "" for slope, expected in zip(slopes, (of_time, of_memory), strict=True)]
            said = ", ".join(f"{each:.2f}" for each in seconds)
            print(
                f"{verb:<18}{axis:<10}{said:<34}{slopes[0]:9.2f}{of_time:9.1f}{peaks[-1] / 1e6:12.0f}{slopes[1]:9.2f}{of_memory:9.1f}"
                + ("  time" + marks[0] if marks[0] else "")
                + ("  memory" + marks[1] if marks[1] and peaks[-1] > 50e6 else ""),
                flush=True,
            )
    if options.kept:
        kept = json.loads(options.kept.read_text()) if options.kept.exists() else []
        known = {tuple(key): seconds for key, seconds in kept} | curves
        write_text(options.kept, json.dumps([[key, seconds] for key, seconds in known.items()]))
        curves = {(verb, axis): known[verb, axis] for verb in VERBS for axis in EXPECTED[verb] if (verb, axis) in known}
    if options.picture:
        draw(options.picture, curves, factors)


def draw(path: Path, curves: dict[tuple[str, str], list[float]], factors: list[int]) -> None:
    """How many times the seconds at 1 × each takes, a panel an axis, log–log, beside straight and quadratic growth, dashed."""
    axes, verbs = (list(dict.fromkeys(key[i] for key in curves)) for i in (1, 0))
    color, x, panels = dict(zip(verbs, COLORS, strict=False)), np.array(factors, float), []
    for i, axis in enumerate(axes):
        lines = [Curve(x, x**power, "128,128,128", "dash") for power in (1, 2)]
        lines += [Curve(x, np.array(took) / took[0], color[verb], "line") for (verb, other), took in curves.items() if other == axis]
        own = "".join(f"; {verb} {OWN[verb][axis]}" for verb in verbs if axis in OWN.get(verb, {}))
        img = loglog_svg(lines, f"× {BASE[axis]:,} {axis}{own}", "times as long", f"Times as long by {axis}", SIZE)
        svg = base64.b64decode(img.split("base64,")[1].split('"')[0]).decode()
        at = f'x="{i % 2 * SIZE[0]}" y="{LEGEND + i // 2 * SIZE[1]}"'
        panels.append(svg.replace("<svg ", f"<svg {at} ", 1))
    legend = "".join(f'<tspan fill="rgb({color[verb]})" dx="{14 * (i > 0)}">{verb}</tspan>' for i, verb in enumerate(verbs))
    legend = f'<text x="34" y="16" font-family="system-ui,sans-serif" font-size="13" font-weight="600">{legend}</text>'
    width, height = 2 * SIZE[0], LEGEND + -(-len(axes) // 2) * SIZE[1]
    view = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    write_text(path, f'<svg xmlns="http://www.w3.org/2000/svg" {view}>{legend}{"".join(panels)}</svg>')


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--axes", nargs="+", default=list(BASE), choices=list(BASE))
    parser.add_argument("--factors", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=1, help="of which the least time counts")
    parser.add_argument("--picture", type=Path, help="where to draw it, such as docs/growth.svg")
    parser.add_argument(
        "--kept", type=Path, help="a JSON file of what was measured, which is added to, so that verbs can be run one by one"
    )
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
