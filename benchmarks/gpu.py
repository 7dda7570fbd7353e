"""Everything that has a fast path, on one GPU in eight minutes and without a network: is it right there, how fast, against what.

    python benchmarks/gpu.py --out gpu.json [--only roof --only sae …] [--device cuda] [--small]

Each section checks what the GPU computes against float64 or the CPU on fresh random inputs, then times ours and the baselines of the CPU
benchmarks in turns (synchronized, medians), beside the card's measured roof. A section that fails or runs out of its time is recorded
with its traceback, and the rest goes on. The JSON is written after every section; a table comes last. --device cpu --small: a rehearsal.
"""

import argparse
import json
import platform
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from gpu_parts import Card, ablation, attribution, harvest, index, roof, sae, sae_density, together

ROOT = Path(__file__).parents[1]
SECONDS = {  # 480 in all
    "tests": 150,
    "roof": 15,
    "sae": 110,
    "density": 25,
    "ablation": 55,
    "together": 25,
    "attribution": 20,
    "harvest": 40,
    "index": 40,
}
PARTS = {
    "roof": roof,
    "sae": sae,
    "density": sae_density,
    "ablation": ablation,
    "together": together,
    "attribution": attribution,
    "harvest": harvest,
    "index": index,
}
PACKAGES = "torch triton numpy numba scipy pyarrow duckdb transformers transformer-lens jaxtyping beartype".split()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--only", action="append", choices=list(SECONDS), help="sections; default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes: does the script itself run?")
    return parser.parse_args()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside, once the time is up and Python has its turn."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version(), "cuda": torch.version.cuda, "cpus": torch.get_num_threads()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    try:
        import_module("numba")
    except Exception as error:  # whatever a numba for another NumPy says: the loops for CPUs need it, nothing here does
        found["numba"] += f", fails: {error}"
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "memory": card.total_memory, "multiprocessors": card.multi_processor_count}
    return found


def tests(seconds: float) -> dict[str, Any]:
    """Every test marked gpu, in processes of their own: one that crashes takes nothing else along."""
    files = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--tb=short", "-rfE", "-n", "6", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
        output, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        output, status = "".join(part.decode() for part in (error.stdout, error.stderr) if part), -1
    last = ([line for line in output.splitlines() if re.search(r"\d+ (passed|failed|skipped|error)", line)] or ["no closing line"])[-1]
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {"rows": [{"what": "pytest -m gpu", "note": last}], "status": status, "failed": failed, "output": output[-60_000:]}


def run(name: str, card: Card) -> dict[str, Any]:
    start = time.perf_counter()
    found: dict[str, Any] = {"rows": []}
    try:
        if name == "tests":
            return tests(SECONDS[name])
        with at_most(SECONDS[name] * (100 if card.is_small else 1)):
            for row in PARTS[name](card):
                found["rows"].append(row)
                print(f"{name}: {row}", flush=True)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
        found["traceback"] = traceback.format_exc()
        print(f"{name}: {found['error']}", flush=True)
    finally:
        found["seconds"] = round(time.perf_counter() - start, 1)
        if card.device == "cuda":
            found["peak_memory"] = torch.cuda.max_memory_allocated()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return found


def print_table(results: dict[str, Any]) -> None:
    print("\n" + ", ".join(f"{name} {value}" for name, value in results["machine"].items()))
    print(f"\n{'':<12}{'what':<58}{'ms':>10}{'× ours':>8}{'of roof':>9}{'error':>10}  note")
    for name, section in results["sections"].items():
        for row in section["rows"]:
            numbers = [("ms", ".3f", 10), ("times", ".1f", 8), ("share", ".2f", 9), ("error", ".1e", 10)]
            cells = "".join(f"{row[key]:>{width}{form}}" if key in row else " " * width for key, form, width in numbers)
            print(f"{name:<12}{row['what']:<58}{cells}  {row.get('note', '')}")
        for line in [*section.get("failed", ()), *([section["error"]] if "error" in section else [])]:
            print(f"{name:<12}{line[:200]}")


def main() -> None:
    options = arguments()
    results: dict[str, Any] = {"machine": machine(options.device), "small": options.small, "sections": {}}
    card = Card(options.device, options.small)
    for name in options.only or SECONDS:
        results["sections"][name] = run(name, card)
        options.out.write_text(json.dumps(results, indent=1, default=str) + "\n")
    print_table(results)


if __name__ == "__main__":
    main()
