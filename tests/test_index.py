"""The index equals a dense computation, resumes to the byte, says what does not fit, and is read without the model."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_sae

from workbench.features import collect as collecting
from workbench.features.index import FeatureIndex, build_index
from workbench.features.page import Label
from workbench.features.windows import AFTER, BEFORE, N_BINS, N_TOP
from workbench.head import Head
from workbench.sae.sae import SAE, SAEConfig

WORDS = "the cat sat on mat and dog ran to".split()


def made_texts(n: int = 60, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 40))) for _ in range(n)]


TEXTS = made_texts()


@pytest.fixture(scope="module")
def model(model_of):
    return model_of("gpt2")


@pytest.fixture(scope="module")
def saes() -> dict[str, SAE]:
    """Two that read block 1, the second of half the features; features 5 and 6 of the first are never active, feature 7 is rare."""
    wide, narrow = random_sae(), random_sae()
    wide.b_enc[5:7] = -1e3
    wide.b_enc[7] -= 3
    small = SAE(type(wide.cfg)(wide.cfg.d_in, 32, wide.cfg.hook_name))
    for name, weight in small.named_parameters():
        source = getattr(narrow, name)
        weight.data = source[:, :32].clone() if name == "W_enc" else source[:32].clone()
    return {"wide": wide, "narrow": small.requires_grad_(False)}


@pytest.fixture(scope="module")
def index(model, saes, tmp_path_factory) -> FeatureIndex:
    return build_index(model, saes, TEXTS, tmp_path_factory.mktemp("index"), progress=False)


@pytest.fixture(scope="module")
def dense(model, saes) -> list[np.ndarray]:
    """Each text's activations (tokens, 64) of the wide SAE, one text at a time, the start token left out."""
    hook_name = saes["wide"].cfg.hook_name
    return [saes["wide"].encode(model.run_with_cache(text)[1][hook_name][0, 1:]).numpy() for text in TEXTS]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_densities_maxima_and_histograms_equal_the_dense_computation(index: FeatureIndex, dense: list[np.ndarray]):
    acts = np.concatenate(dense)
    assert index.manifest["n_tokens"] == len(acts)
    np.testing.assert_allclose(index.table["max_act"], acts.max(0), rtol=1e-4)
    assert index.table["n_active"].tolist() == pytest.approx((acts > 0).sum(0), abs=1)  # an activation can lie within rounding of 0
    assert index.table["density"].tolist() == pytest.approx((acts > 0).mean(0), abs=1 / len(acts))
    for feature in range(64):
        page = index.feature(feature)
        active = acts[acts[:, feature] > 0, feature]
        expected = np.histogram(active, np.arange(N_BINS + 1) * page.bin_width)[0]
        assert np.abs(expected - page.histogram).sum() <= 2  # … or of a bin's edge
        assert sum(page.histogram) == page.n_active == sum(interval.n_active for interval in page.intervals)


def test_top_examples_equal_the_dense_computation(index: FeatureIndex, dense: list[np.ndarray]):
    for feature in range(64):
        peaks = np.array([acts[:, feature].max() for acts in dense])
        shown = index.feature(feature).top
        assert len(shown) == min(N_TOP, (peaks > 0).sum())
        np.testing.assert_allclose([each.activation for each in shown], np.sort(peaks)[::-1][: len(shown)], rtol=1e-4, atol=1e-5)
        assert len({each.text for each in shown}) == len(shown)
        for each in shown:
            acts = dense[each.text][:, feature]
            first = max(0, int(acts.argmax()) - BEFORE)
            window = slice(first, int(acts.argmax()) + AFTER + 1)
            np.testing.assert_allclose(each.activations, acts[window], rtol=1e-4, atol=1e-5)
            assert "".join(each.str_tokens) in TEXTS[each.text]
            assert each.is_cut == (first > 0, window.stop < len(acts))


def test_interval_examples_are_activations_of_their_interval(index: FeatureIndex, dense: list[np.ndarray]):
    shown = [(page, interval) for page in map(index.feature, range(64)) for interval in page.intervals]
    assert len(shown) > 300 and max(len(interval.examples) for _, interval in shown) == 4
    for page, interval in shown:
        assert len(interval.examples) == min(4, interval.n_active)
        for each in interval.examples:
            assert interval.low <= each.activation < interval.high
            acts = dense[each.text][:, page.feature]
            assert np.isclose(acts, each.activation, rtol=1e-4, atol=1e-5).any()


def test_repeated_texts_and_start_tokens_inside_texts_are_not_shown_or_counted(model, saes, tmp_path: Path):
    texts = ["the cat sat", "the cat sat", "the <|start|>dog", "<|start|>", ""]
    index = build_index(model, saes["wide"], texts, tmp_path, progress=False)
    count = [len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert index.manifest["n_tokens"] == sum(count) - 2
    shown = [each for feature in range(64) for each in index.feature(feature).top]
    assert {each.text for each in shown} == {0, 2}
    assert all(each.str_tokens[each.peak] != "<|start|>" for each in shown)
    assert any("<|start|>" in each.str_tokens for each in shown)  # it is read, and shown where it stands


def test_long_texts_are_read_in_parts_that_see_themselves_only(model, saes, tmp_path: Path):
    text = " ".join(random.Random(1).choices(WORDS, k=150))  # the model reads 64 tokens
    index = build_index(model, saes["wide"], [text], tmp_path, progress=False)
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert index.manifest["n_tokens"] == len(ids)
    parts = [ids[at : at + 63] for at in range(0, len(ids), 63)]
    hook_name = saes["wide"].cfg.hook_name
    acts = [saes["wide"].encode(model.run_with_cache(torch.tensor([[0, *part]]))[1][hook_name][0, 1:]).numpy() for part in parts]
    assert index.table["n_active"].tolist() == pytest.approx((np.concatenate(acts) > 0).sum(0), abs=1)
    cut = {each.is_cut for each in index.feature(0).top}
    assert (False, True) in cut and {each.text for each in index.feature(0).top} == {0}


def test_nearest_neighbors_are_those_of_largest_cosine_in_every_sae(index: FeatureIndex, saes):
    directions = {name: sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True) for name, sae in saes.items()}
    neighbors = index.feature(3).neighbors
    assert list(neighbors) == ["wide", "narrow"]
    assert neighbors["narrow"][0].feature == 3 and neighbors["narrow"][0].cosine == pytest.approx(1, abs=1e-5)  # the same row
    for name, found in neighbors.items():
        cosines = directions[name] @ directions["wide"][3]
        expected = [i for i in cosines.argsort(descending=True).tolist() if (name, i) != ("wide", 3)][:6]
        assert [each.feature for each in found] == expected
        assert [each.cosine for each in found] == pytest.approx(cosines[expected].tolist(), abs=1e-5)


def test_all_saes_of_one_pass_are_as_each_alone(index: FeatureIndex, model, saes, tmp_path: Path):
    alone = build_index(model, {"narrow": saes["narrow"]}, TEXTS, tmp_path, progress=False)
    of_both = index.with_sae("narrow")
    assert alone.table.equals(of_both.table)
    assert alone.feature(3).table.equals(of_both.feature(3).table)


def test_many_parts_and_small_chunks_give_the_same_files(index: FeatureIndex, model, saes, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(collecting, "MOST", 500)
    monkeypatch.setattr(collecting, "MOST_PARTS", 3)
    monkeypatch.setitem(collecting.BATCH, "cpu", 100)
    build_index(model, saes, TEXTS, tmp_path / "a", progress=False)
    monkeypatch.setattr(collecting, "MOST", 2**30)
    build_index(model, saes, TEXTS, tmp_path / "b", progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def _resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_memory_does_not_grow_with_the_tokens_read(model):
    """Feature activations of 16 MB come and go; what is kept of them, a few hundred entries a call, must not lie in their place."""
    wide = SAE(SAEConfig(32, 2**16, "blocks.1.hook_resid_pre")).requires_grad_(False)
    wide.b_enc -= 1
    wide.b_enc[:20] += 2
    head, pending = Head(model, [wide.cfg.hook_name]), collecting.Pending(["wide"])
    rows = [[5] * 60] * 2
    for _ in range(10):
        pending.read(head, {"wide": wide}, rows)
    before = _resident()
    for _ in range(50):
        pending.read(head, {"wide": wide}, rows)
    assert pending.n_entries == 60 * 120 * 20
    assert _resident() - before < 100e6


def test_the_size_of_shards_changes_nothing_that_is_shown(index: FeatureIndex, model, saes, tmp_path: Path):
    other = build_index(model, saes, iter(TEXTS), tmp_path, shard=300, progress=False)
    assert len(list(tmp_path.glob("texts-*.parquet"))) > 10
    assert other.table["n_active"].tolist() == pytest.approx(index.table["n_active"].tolist(), abs=1)
    for feature in (0, 7, 20):
        one, same = index.feature(feature), other.feature(feature)
        assert [(each.text, each.peak) for each in one.top] == [(each.text, each.peak) for each in same.top]
        drawn = [[{(each.text, each.peak) for each in interval.examples} for interval in page.intervals] for page in (one, same)]
        assert drawn[0] == drawn[1]


@pytest.mark.slow
def test_a_build_killed_at_random_points_ten_times_equals_an_unbroken_one(model, saes, tmp_path: Path):
    """Each time a child process is killed without a chance to clean up, at a call drawn at random from the first half of a whole build's.
    Calls are counted, not seconds: a busy machine kills at the same places."""

    def build(folder: Path, at_call: int = 0) -> int:
        """at_call: dies there. Returns how many calls it made."""
        n_calls = 0

        def count(frame, event: str, argument) -> None:
            nonlocal n_calls
            n_calls += 1
            if n_calls == at_call:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        build_index(model, saes, TEXTS[:20], folder, shard=200, progress=False)
        sys.setprofile(None)
        return n_calls

    build(tmp_path / "first")  # imports are over
    n_calls, unbroken = build(tmp_path / "unbroken"), contents(tmp_path / "unbroken")
    rng, places, n_killed = random.Random(0), set(), 0
    while n_killed < 10:
        at_call = rng.randint(1, n_calls // 2)
        child = os.fork()
        if child == 0:
            build(tmp_path / "killed", at_call)
            os._exit(0)
        n_killed += os.waitpid(child, 0)[1] == signal.SIGKILL
        places.add(len(list((tmp_path / "killed").rglob("*"))))
        if (tmp_path / "killed" / "manifest.json").exists():  # done: the next kills hit a new build
            assert {name: data for name, data in contents(tmp_path / "killed").items() if name in unbroken} == unbroken
            shutil.rmtree(tmp_path / "killed")
    build(tmp_path / "killed")
    assert contents(tmp_path / "killed") == unbroken
    assert len(places) > 3, "all kills hit the same place"


@pytest.mark.parametrize("n_batches", [0, 2, 4])
def test_ctrl_c_leaves_nothing_half_written_and_the_next_call_goes_on(model, saes, tmp_path: Path, monkeypatch, n_batches: int):
    calls = []

    def interrupted(head: Head, tokens: torch.Tensor):
        calls.append(tokens)
        if len(calls) > n_batches:
            raise KeyboardInterrupt
        return run(head, tokens)

    run = Head.__call__
    monkeypatch.setattr(Head, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_index(model, saes, TEXTS[:20], tmp_path / "a", shard=300, progress=False)
    with pytest.raises(ValueError, match="unfinished index"):
        FeatureIndex.open(tmp_path / "a")
    monkeypatch.setattr(Head, "__call__", run)
    done = len(list((tmp_path / "a" / "shards").glob("*/shard.json")))
    build_index(model, saes, TEXTS[:20], tmp_path / "a", shard=300, progress=False)
    assert done >= n_batches // 2
    assert contents(tmp_path / "a") == contents(build_index(model, saes, TEXTS[:20], tmp_path / "b", shard=300, progress=False).folder)


def test_an_index_that_is_finished_is_not_built_again(index: FeatureIndex, model, saes, monkeypatch):
    monkeypatch.setattr(Head, "__call__", lambda *args: pytest.fail("it was"))
    before = contents(index.folder)
    build_index(model, saes, TEXTS, index.folder, progress=False)
    assert contents(index.folder) == before


def test_an_index_is_read_without_the_model(index: FeatureIndex):
    code = (
        "import sys; from workbench.features.index import FeatureIndex; page = FeatureIndex.open(sys.argv[1]).feature(0); "
        "assert '<div' in page._repr_html_(); print('transformer_lens' in sys.modules, 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, index.folder], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_threads_that_read_at_once_get_what_one_gets(index: FeatureIndex):
    features = [7 * i % 24 for i in range(72)]
    expected = [repr(FeatureIndex.open(index.folder).feature(feature)) for feature in range(24)]
    shared = FeatureIndex.open(index.folder)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda feature: repr(shared.feature(feature)), features))
    assert found == [expected[feature] for feature in features]


def test_sql_reaches_every_table(index: FeatureIndex):
    query = "SELECT feature, count(*) AS n FROM features JOIN examples USING (sae, feature) WHERE sae = ? GROUP BY feature ORDER BY feature"
    counts = index.sql(query, "narrow")
    page = index.with_sae("narrow").feature(int(counts["feature"][0]))
    assert counts["n"][0] == len(page.table)
    tokens = index.sql("SELECT str_token FROM (SELECT unnest(tokens) AS token FROM texts) JOIN vocabulary USING (token)")["str_token"]
    assert set(WORDS) <= set(tokens.str.strip())


def test_labels_are_kept_and_shown_with_their_score_and_origin(index: FeatureIndex, model, saes, tmp_path: Path):
    own = build_index(model, saes, TEXTS, tmp_path, progress=False)
    own.save_labels({3: Label("cats", 0.8, "answer key")})
    own.with_sae("narrow").save_labels({3: Label("dogs")})
    again = FeatureIndex.open(build_index(model, saes, TEXTS, tmp_path, progress=False).folder)
    assert again.feature(3).label == Label("cats", 0.8, "answer key") and "cats (answer key, 0.80)" in repr(again.feature(3))
    assert again.table["label"].tolist() == ["cats" if i == 3 else "" for i in range(64)]
    assert again.feature(3).neighbors["narrow"][0].label == "dogs"


def test_an_index_belongs_to_one_model_and_its_saes(index: FeatureIndex, model, model_of, saes):
    assert index.of(model, saes["narrow"]).sae_name == "narrow"
    other = random_sae()
    other.b_enc[0] += 1
    with pytest.raises(ValueError, match=f"another SAE: of wide {saes['wide'].fingerprint()}, .* this SAE is {other.fingerprint()}"):
        index.of(model, other)
    with pytest.raises(ValueError, match=f"another model: of .* {index.manifest['model']['fingerprint']}, this model is"):
        index.of(model_of("llama"), saes["wide"])
    with pytest.raises(ValueError, match="no SAE is called 'wise' in this index; there is wide, narrow"):
        index.with_sae("wise")


def test_a_missing_or_damaged_file_is_named(model, saes, tmp_path: Path):
    build_index(model, saes, TEXTS, tmp_path, progress=False)
    file = tmp_path / "examples-narrow-00000.parquet"
    data = file.read_bytes()
    file.write_bytes(data[:-5])
    with pytest.raises(ValueError, match=rf"examples-narrow-00000.parquet is damaged: it has {len(data) - 5:,} bytes"):
        FeatureIndex.open(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="lacks examples-narrow-00000.parquet"):
        FeatureIndex.open(tmp_path)


def other_sae(build: Callable, saes: dict[str, SAE]) -> None:
    changed = random_sae()
    changed.b_dec[0] += 1
    build(saes={"wide": changed, "narrow": saes["narrow"]})


WRONG = {
    "saes wide fingerprint is .*, there .*": other_sae,
    "saes narrow is absent, there another": lambda build, saes: build(saes={"wide": saes["wide"]}),
    "corpus fingerprint is .*, there": lambda build, saes: build(texts=TEXTS[:-1]),
    "shard is 99, there 4194304": lambda build, saes: build(shard=99),
    "two SAEs have the same width": lambda build, saes: build(saes=[saes["wide"], random_sae()]),
    "'../x' cannot be a part of file names": lambda build, saes: build(saes={"../x": saes["wide"]}),
    r"no such file or folder: the cat .* \[text\]": lambda build, saes: build(texts="the cat"),
    "shard=0 holds no text": lambda build, saes: build(shard=0),
    "no SAE is given": lambda build, saes: build(saes=[]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_said_and_changes_nothing(index: FeatureIndex, model, saes, message: str):
    def build(saes=saes, texts=TEXTS, **options) -> None:
        build_index(model, saes, texts, index.folder, progress=False, **options)

    before = contents(index.folder)
    with pytest.raises(ValueError, match=message):
        WRONG[message](build, saes)
    assert contents(index.folder) == before


def test_texts_that_changed_since_a_build_was_cut_off_are_noticed(model, saes, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("workbench.features.build.finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build_index(model, saes, TEXTS, tmp_path, shard=300, progress=False)
    with pytest.raises(ValueError, match=r"shard 0 texts are \w{12}, there \w{12}"):
        build_index(model, saes, made_texts(seed=1), tmp_path, shard=300, progress=False)


def test_texts_without_tokens_and_folders_of_something_else_are_refused(model, saes, tmp_path: Path):
    with pytest.raises(ValueError, match="the 2 texts hold no tokens"):
        build_index(model, saes, ["", "<|start|>"], tmp_path / "empty", progress=False)
    with pytest.raises(ValueError, match="text 1 is of type int; expected strings"):
        build_index(model, saes, iter(["the cat", 3]), tmp_path / "numbers", progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"not empty and no index \(found: notes.txt\)"):
        build_index(model, saes, TEXTS, tmp_path / "full", progress=False)
    with pytest.raises(ValueError, match="is not an index: manifest.json is missing"):
        FeatureIndex.open(tmp_path / "full")


@pytest.mark.parametrize("feature", [-1, 64])
def test_a_feature_that_is_not_there_is_refused(index: FeatureIndex, feature):
    with pytest.raises(ValueError, match="out of range: wide has features 0 to 63"):
        index.feature(feature)


def test_activations_that_are_no_numbers_stop_the_build(model, saes, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Head, "__call__", lambda head, tokens: {head.hook_names[0]: torch.full((*tokens.shape, 32), torch.nan)})
    with pytest.raises(ValueError, match="blocks.1.hook_resid_pre hold .* NaN"):
        build_index(model, saes, TEXTS, tmp_path, progress=False)


def test_hostile_texts_are_read_and_found_again(model, saes, tmp_path: Path):
    texts = [
        "</td><script>alert(1)</script> \"'",
        "\u202ertl \x00\x07",
        "العربية 👩‍👩‍👧 \ud800",
        "the cat " * 130_000,
        "{}%s'; DROP TABLE features;--",
    ]
    index = build_index(model, saes, texts, tmp_path / "it's [odd] = *?", progress=False)
    shown = {each.text: "".join(each.str_tokens) for feature in range(64) for each in index.feature(feature).top}
    assert set(shown) == set(range(5))
    assert "script" in shown[0]


def test_a_hook_point_outside_the_residual_stream_promotes_nothing(model, tmp_path: Path):
    index = build_index(model, random_sae("blocks.1.mlp.hook_post", d_in=4 * 32), TEXTS[:5], tmp_path, progress=False)
    assert index.feature(0).promoted is None and index.table["promoted"].tolist() == [[]] * 64
