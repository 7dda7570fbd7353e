"""How long does a command take that has little to do? CPU seconds from a shell, beside what its libraries alone take to import.

    python benchmarks/start.py [--before FOLDER] [--rounds 3]

--before: a checkout of an earlier build, measured in turns with this one (`git worktree add FOLDER COMMIT`). One thread each. The limit of
a command that runs the model is an interpreter that imports torch, transformers' GPT-2, datasets and TransformerLens and does nothing;
of one that reads an index only, an interpreter that imports pandas, pyarrow and DuckDB.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parents[1]
KOBE = "Fact: The capital of the state where Kobe Bryant played basketball is"
MODEL = "import torch; from transformers import GPT2LMHeadModel; import datasets, transformer_lens.model_bridge"
INDEX = "import pandas, pyarrow.parquet, duckdb"
COMMANDS = {
    "rank": (MODEL, ["rank", KOBE, "--answer", " Sacramento", "--baseline", " Albany"]),
    "find, two prompts": (MODEL, ["find", KOBE, "--without", "Fact: It is"]),
    "find --label": (INDEX, ["find", "--label", "Lakers"]),
    "page": (INDEX, ["page", "INDEX", "5"]),
    "label": (INDEX, ["label", "INDEX", "5", "6"]),
    "--help": (INDEX, ["--help"]),
}


def cpu_seconds(command: list[str], tree: Path) -> float:
    """User and system time of a process of its own, in which `workbench` is the tree's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], cwd=tree, env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of an earlier build")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    trees = {"before": options.before.resolve()} if options.before else {}
    trees["now"] = HERE
    print(f"{'':<20}{'libraries':>10}" + "".join(f"{name:>9}" for name in trees) + ("   now / before" if options.before else ""))
    for name, (imports, command) in COMMANDS.items():
        taken: dict[str, list[float]] = {"libraries": [], **{tree: [] for tree in trees}}
        for _ in range(options.rounds):
            taken["libraries"].append(cpu_seconds(["-c", imports], HERE))
            for which, tree in trees.items():
                with tempfile.TemporaryDirectory() as folder:
                    index = shutil.copytree(tree / "workbench/atlas/weights/index", Path(folder) / "index")
                    args = [str(index) if each == "INDEX" else each for each in command]
                    taken[which].append(cpu_seconds(["-m", "workbench", *args], tree))
        middle = {which: statistics.median(some) for which, some in taken.items()}
        ratio = f"{middle['now'] / middle['before']:14.2f}" if options.before else ""
        print(f"{name:<20}{middle['libraries']:10.2f}" + "".join(f"{middle[tree]:9.2f}" for tree in trees) + ratio, flush=True)


if __name__ == "__main__":
    main()
