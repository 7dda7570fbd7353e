"""What a bug report needs to say of a machine, on one page: versions, processor, memory, devices, the atlas's files, the environment.

    workbench doctor            or, in a notebook, print(examine())

No model is loaded. Of environment variables only those of a fixed list are shown, and no value of any that could hold a secret.
"""

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from workbench.atlas.layers import WEIGHTS, read_labels
from workbench.features.index.manifest import read_manifest, sha256
from workbench.features.index.own_labels import labels_file
from workbench.model.memory import free_memory
from workbench.versions import TESTED, untested

VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "ATEN_CPU_CAPABILITY"),
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "TOKENIZERS_PARALLELISM", "WORKBENCH_LABELS"),
)
OPTIONAL = {"ray": "index --workers", "anthropic": "label --api anthropic", "openai": "label --api openai", "triton": "kernels on a GPU"}


@dataclass(frozen=True)
class Fact:
    """One line of the page. problem: what may be wrong with it; empty where nothing is."""

    group: str
    name: str
    value: str
    problem: str = ""


@dataclass(frozen=True)
class Examination:
    """All of them."""

    facts: tuple[Fact, ...]

    @property
    def problems(self) -> list[str]:
        """A sentence each."""
        return [f"{fact.name}: {fact.problem}" for fact in self.facts if fact.problem]

    def __str__(self) -> str:
        width, lines, group = max(len(fact.name) for fact in self.facts), [], ""
        for fact in self.facts:
            lines += [] if fact.group == group else ["", fact.group]
            group = fact.group
            lines.append(f"  {fact.name:<{width}}  {fact.value}" + (f"  ! {fact.problem}" if fact.problem else ""))
        return "\n".join([*lines[1:], "", *(self.problems or ["nothing is wrong that can be seen from here"])])


def examine() -> Examination:
    """What there is on this machine, in a second or two."""
    return Examination((*_versions(), *_machine(), *_devices(), *_optional(), *_files(), *_environment()))


def _versions() -> Iterator[Fact]:
    yield Fact("versions", "workbench", _version("circuit-workbench") or "run from its sources")
    yield Fact("versions", "Python", f"{platform.python_version()} {platform.python_implementation()}, {platform.platform()}")
    for name, (oldest, newest) in TESTED.items():
        here = _version(name)
        problem = "" if here and not untested({name: here}) else "not tested with it" if here else "it is needed"
        yield Fact("versions", name, f"{here or 'not installed'} (tested: {oldest} to {newest})", problem)


def _machine() -> Iterator[Fact]:
    cpuinfo = Path("/proc/cpuinfo")
    told = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    named, flags = re.search(r"model name\s*: (.*)", told), set("".join(re.findall(r"^flags\s*: (.*)", told, re.M)[:1]).split())
    yield Fact("machine", "processor", named[1] if named else platform.processor() or platform.machine())
    sets = [
        name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("bf16", "avx512_bf16"), ("AMX", "amx_bf16")) if flag in flags
    ]
    yield Fact("machine", "instructions", f"{', '.join(sets) or 'not said'}; torch computes with {torch.backends.cpu.get_cpu_capability()}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Fact("machine", "cores", f"{os.cpu_count()}, {usable} usable here; torch takes {torch.get_num_threads()} threads")
    free = free_memory(torch.device("cpu"))
    yield Fact("machine", "memory", f"{free / 1e9:.1f} GB free" if free else "not said")


def _devices() -> Iterator[Fact]:
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        memory = f"{about.total_memory / 1e9:.0f} GB, capability {about.major}.{about.minor}, CUDA {torch.version.cuda}"
        yield Fact("devices", f"cuda:{number}", f"{about.name}, {memory}")
    if torch.backends.mps.is_available():
        yield Fact("devices", "mps", "Apple's GPU")
    if not torch.cuda.device_count():
        yield Fact(
            "devices", "GPU", f"none that this torch sees ({'built for CUDA ' + torch.version.cuda if torch.version.cuda else 'CPU'})"
        )


def _optional() -> Iterator[Fact]:
    for name, use in OPTIONAL.items():
        yield Fact("optional", name, f"{_version(name) or 'here' if find_spec(name) else 'not installed'} ({use})")


def _files() -> Iterator[Fact]:
    problems = list(atlas_problems(WEIGHTS))
    yield Fact("files", "atlas", _at_home(WEIGHTS), "; ".join(problems))
    yield Fact("files", "your labels", f"{_at_home(labels_file())}{'' if labels_file().exists() else ' (none yet)'}")


def atlas_problems(weights: Path) -> Iterator[str]:
    """What is damaged or missing of the atlas: weights by the lengths that their heads say, the index by its checksums."""
    from safetensors import SafetensorError, safe_open

    folders = [*weights.glob("sae_*"), *weights.glob("layers/*"), *weights.glob("transcoders/*")]
    wanted = [weights / "model" / "model.safetensors", *(folder / "sae_weights.safetensors" for folder in folders)]
    for path in [*wanted, weights / "model" / "tokenizer.json", *(folder / "labels.json" for folder in folders)]:
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass
            elif path.name == "labels.json":
                read_labels(path)
            elif not path.is_file():
                raise FileNotFoundError
        except (SafetensorError, OSError, ValueError):
            yield f"{path.relative_to(weights)} is missing or damaged"
    if len(folders) < 3:
        yield "SAEs are missing"
    try:
        sums = read_manifest(weights / "index").get("sha256", {})
        yield from (f"index/{name} is damaged" for name, known in sums.items() if sha256(weights / "index" / name) != known)
    except (ValueError, OSError) as error:
        yield str(error)


def _environment() -> Iterator[Fact]:
    for name in VARIABLES:
        if name in os.environ:
            yield Fact("environment", name, _at_home(os.environ[name]))
    if not set(VARIABLES) & set(os.environ):
        yield Fact("environment", "variables", "none of those that matter is set")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _at_home(path: str | Path) -> str:
    """A person's name stands in the path of their home."""
    return re.sub(rf"^{re.escape(str(Path.home()))}(?=/|$)", "~", str(path))
