"""Every verb says what it needs before it begins, goes on where it is insisted, and says in a sentence where memory was refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_circuit import sparse_sae
from made_transcoders import made_set

from workbench import cli
from workbench.bench import Workbench
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import build_index
from workbench.model import memory
from workbench.model.memory import Need, OutOfMemory, in_words, largest, pass_bytes
from workbench.sae.evaluate import evaluate
from workbench.sae.evaluate_layers import evaluate_layers
from workbench.sae.training.budget import budget

PROMPT, TEXTS, METRIC = "the cat sat on the mat", ["the cat sat", "the dog ran"], logit_diff(5, 7)
CPU = torch.device("cpu")
ALLOCATORS = {
    "torch's": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "262144000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "numpy's": MemoryError("Unable to allocate 244. GiB for an array with shape (32768000000,) and data type int64"),
}


@pytest.fixture(scope="module")
def bench(model_of) -> Workbench:
    model = model_of("gpt2")
    layers = {name: sparse_sae(name, seed) for seed, name in enumerate(("blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"))}
    return Workbench(model, next(iter(layers.values())), layers=layers, transcoders=made_set("mlp.hook_in", "mlp.hook_out", has_skip=False))


VERBS: dict[str, tuple[Callable[..., Any], str]] = {
    "rank": (lambda bench, folder, **asked: bench.rank(PROMPT, METRIC, progress=False, **asked), "ranking"),
    "circuit": (
        lambda bench, folder, **asked: bench.circuit(PROMPT, METRIC, progress=False, **asked),
        "reading the places of this circuit",
    ),
    "direct": (
        lambda bench, folder, **asked: bench.circuit(PROMPT, METRIC, over="transcoders", progress=False, **asked),
        "reading this circuit",
    ),
    "sets": (lambda bench, folder, **asked: FeatureSets(bench, PROMPT, METRIC, **asked), "measuring sets"),
    "find": (lambda bench, folder, **asked: bench.find(TEXTS[:1], TEXTS[1:], **asked), "searching"),
    "find_at": (lambda bench, folder, **asked: bench.find_at(PROMPT, **asked), "searching"),
    "find_by_attribution": (lambda bench, folder, **asked: bench.find_by_attribution(PROMPT, METRIC, **asked), "ranking"),
    "index": (
        lambda bench, folder, **asked: build_index(bench.model, bench.sae, TEXTS, folder, progress=False, **asked),
        "building the index",
    ),
    "evaluate": (lambda bench, folder, **asked: evaluate(bench.model, bench.sae, TEXTS, progress=False, **asked), "evaluating"),
    "evaluate_layers": (
        lambda bench, folder, **asked: evaluate_layers(bench.model, bench.transcoders, TEXTS, progress=False, **asked),
        "evaluating",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_does_not_fit_is_refused_in_one_sentence_unless_it_is_insisted_on(verb: str, bench, tmp_path: Path, monkeypatch):
    call, what = VERBS[verb]
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    with pytest.raises(OutOfMemory) as refused:
        call(bench, tmp_path / "index")
    said = str(refused.value)
    assert re.fullmatch(rf"{what} needs [\d.]+ (MB|GB) of memory \(.*\), but cpu has 0.0 MB left: .*, or insist=True", said), said
    assert "\n" not in said and not (tmp_path / "index").exists()
    assert call(bench, tmp_path / "index", insist=True) is not None


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "find_at"])
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_what_an_allocator_says_on_the_way_becomes_one_sentence(verb: str, allocator: str, bench, tmp_path: Path, monkeypatch):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ALLOCATORS[allocator]

    for name in ("encode", "pre_acts"):
        monkeypatch.setattr("workbench.sae.dictionary.Dictionary." + name, refuse)
    monkeypatch.setattr("workbench.features.search.codes.select", refuse)
    call, _ = VERBS[verb]
    with pytest.raises(OutOfMemory, match=r"did not get (262.1 GB|244\. GiB) that it needs, cpu has .* left: ") as said:
        call(bench, tmp_path / "index")
    assert "\n" not in str(said.value) and "alloc_cpu" not in str(said.value)


def test_a_circuit_says_what_its_edges_take_once_they_are_counted(bench, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(Need, "check", lambda self, *args: said.append(str(self)))
    bench.circuit(PROMPT, METRIC, progress=False)
    bench.circuit(PROMPT, METRIC, over="transcoders", progress=False)
    assert sum("edges" in each for each in said) == 2


def test_the_sets_of_a_long_list_are_counted_before_they_are_made(bench, monkeypatch):
    sets = FeatureSets(bench, PROMPT, METRIC)
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    with pytest.raises(OutOfMemory, match="measuring 100,000 sets of"):
        sets.check(100_000)


def test_the_shell_says_it_in_its_own_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    command = ["rank", "Fact: The capital of the state where Kobe Bryant played basketball is", "--answer", " Sacramento", "--ablate", "3"]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("workbench: ranking needs") and said.endswith("or --insist\n") and said.count("\n") == 1
    assert cli.main([*command, "--insist"]) == 0


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_memory_refused_anywhere_in_a_command_is_one_line(allocator: str, capsys: pytest.CaptureFixture[str], monkeypatch):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ALLOCATORS[allocator]

    monkeypatch.setattr("workbench.benches.load", refuse)
    assert cli.main(["rank", "a", "--answer", " b"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("workbench: this command did not get 2") and said.count("\n") == 1


def test_other_errors_pass_through_as_they_are():
    with pytest.raises(RuntimeError, match=r"^shapes$"), in_words("ranking", "less"):
        raise RuntimeError("shapes")
    with pytest.raises(OutOfMemory, match=r"^its own words$"), in_words("ranking", "less"):
        raise OutOfMemory("its own words")


def test_the_largest_phase_is_what_is_needed_and_a_small_plan_is_not_printed(capsys: pytest.CaptureFixture[str], monkeypatch):
    need = largest("ranking", [{"a": 5, "b": 1}, {"a": 3 * 10**9, "c": 0}], "less")
    assert need.n_bytes == 3 * 10**9 and str(need) == "3.0 GB of memory (a 3.0 GB)"
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    need.check(CPU, say=True)
    Need("ranking", {"a": 5}, "less").check(CPU, say=True)
    assert capsys.readouterr().err == "ranking needs up to 3.0 GB of memory (a 3.0 GB)\n"


def test_a_tenth_of_what_is_free_is_left_to_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    Need("ranking", {"a": 900}, "less").check(CPU)
    with pytest.raises(OutOfMemory):
        Need("ranking", {"a": 901}, "less").check(CPU)


def test_training_is_refused_by_the_same_words_but_cannot_be_insisted_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    said = r"^training needs 8.2 GB of memory \(Adam 4.1 GB, weights 2.0 GB, gradients 2.0 GB\), but cpu has .*sharded.py\)$"
    with pytest.raises(OutOfMemory, match=said):
        budget(4096, 62_500, 1, 64).need.check(CPU, insist=None)


def test_attention_grows_with_the_square_of_the_prompt(bench):
    cfg = bench.model.cfg
    assert 3.9 < pass_bytes(cfg, 40_000) / pass_bytes(cfg, 20_000) < 4
    assert pass_bytes(cfg, 1000, is_graded=True) > pass_bytes(cfg, 1000)


@pytest.mark.parametrize(
    ("own", "folder", "files"),
    [
        ("0::/job/step\n", "job", ("memory.max", "memory.current", "inactive_file")),
        ("3:cpu:/x\n9:memory:/job\n", "memory/job", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
        ("9:memory:/not/seen/from/here\n", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_a_limit_of_a_container_or_a_job_counts_with_what_is_in_use_there(own, folder, files, tmp_path, monkeypatch):
    group = tmp_path / "groups" / folder
    group.mkdir(parents=True)
    (tmp_path / "own").write_text(own)
    for name, text in zip((*files[:2], "memory.stat"), ("5000000\n", "3000000\n", f"anon 1\n{files[2]} 1000000\n"), strict=True):
        (group / name).write_text(text)
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    assert memory.free_memory(torch.device("cpu")) == 3_000_000
    for limit in ("max", str(2**63 - 4096)):
        (group / files[0]).write_text(limit)
        free = memory.free_memory(torch.device("cpu"))
        assert free is None or free > 10**7
