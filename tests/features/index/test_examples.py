"""Examples without an index, and a feature's page from the bench: from an index, or from the example texts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_folders import HOOK, PROMPT
from made_page import made_page

from workbench.bench import Workbench
from workbench.features.index.examples import Examples
from workbench.features.index.index import build_index
from workbench.features.index.page import FeaturePages
from workbench.features.index.parts import Label
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

TEXTS = [PROMPT, "Fact: the state of Kobe Bryant", "The capital of the state is Sacramento", "Albany is the capital where Kobe played"]


@pytest.fixture(scope="module")
def with_examples(bench: Workbench) -> Workbench:
    return replace(bench, examples=Examples(bench.model, bench.sae, TEXTS), labels={3: "capitals"}, name="tiny")


def peaks(bench: Workbench, feature: int) -> list[float]:
    """Of each of TEXTS, one at a time."""
    acts = [bench.sae.encode(bench.model.run_with_cache(text)[1][HOOK][0, 1:]) for text in TEXTS]
    return [float(each[:, feature].max()) for each in acts]


def test_examples_are_the_texts_of_largest_peak_best_first(with_examples: Workbench):
    for feature in range(8):
        expected = sorted((peak for peak in peaks(with_examples, feature) if peak > 0), reverse=True)
        shown = with_examples.examples(feature, 3)
        assert [each.activation for each in shown] == pytest.approx(expected[:3], rel=1e-4)
        assert all(each.activation == max(each.activations) for each in shown)


def test_without_an_index_the_example_texts_make_the_page(with_examples: Workbench):
    page = with_examples.feature(3)
    assert (page.label.text, page.sae_name, page.model_name) == ("capitals", with_examples.sae_name, "tiny")
    assert page.max_act == pytest.approx(max(peaks(with_examples, 3)), rel=1e-4)
    assert list(page.neighbors) == [with_examples.sae_name]
    assert "Feature 3 of 64 features: capitals" in repr(page) and "start tokens left out" in repr(page)


def test_an_index_makes_the_same_page_and_the_model_is_not_run(bench: Workbench, with_examples: Workbench, tmp_path: Path, monkeypatch):
    index = build_index(bench.model, bench.sae, TEXTS, tmp_path, progress=False)
    index.save_labels({3: Label("capital cities", 0.9, "a person")})
    indexed = replace(with_examples, index=index, examples=None)
    monkeypatch.setattr(type(bench.model), "forward", lambda *args, **kwargs: pytest.fail("it was run"))
    page = indexed.feature(3)
    assert page.label == Label("capital cities", 0.9, "a person")  # before the bench's own
    assert page.table.equals(with_examples.feature(3).table)
    assert f"{index.manifest['n_tokens']:,} tokens" in repr(indexed)


def test_an_index_of_several_widths_is_seen_through_the_one_that_is_looked_through(bench: Workbench, tmp_path: Path):
    narrow = SAE(SAEConfig(16, 8, HOOK)).requires_grad_(False)
    for weight in narrow.parameters():
        torch.nn.init.normal_(weight)
    saes = {"64": bench.sae, "8": narrow}
    index = build_index(bench.model, saes, TEXTS, tmp_path, progress=False)
    both = replace(bench, saes=saes, index=index)
    assert both.feature(60).sae_name == "64" and list(both.feature(60).neighbors) == ["64", "8"]
    assert both.with_sae("8").feature(7).sae_name == "8"
    with pytest.raises(ValueError, match="8 has features 0 to 7"):
        both.with_sae("8").feature(8)
    alone = build_index(bench.model, {"64": bench.sae}, TEXTS, tmp_path / "alone", progress=False)
    assert replace(both, index=alone).with_sae("8").index is None


def test_an_index_of_another_sae_is_refused_when_the_bench_is_made(bench: Workbench, tmp_path: Path):
    index = build_index(bench.model, bench.sae, TEXTS, tmp_path, progress=False)
    other = SAE(SAEConfig(16, 64, HOOK)).requires_grad_(False)
    with pytest.raises(ValueError, match=f"of 64 {bench.sae.fingerprint()}, this SAE is {other.fingerprint()}"):
        replace(bench, sae=other, index=index)


def test_a_bench_that_knows_nothing_says_what_to_give(bench: Workbench):
    with pytest.raises(ValueError, match="nothing is known of the features: .*build_index"):
        bench.feature(3)
    with pytest.raises(ValueError, match="feature 64 is out of range"):
        replace(bench, examples=Examples(bench.model, bench.sae, TEXTS)).feature(64)


def test_a_page_s_table_has_a_row_for_every_example():
    table = made_page().table
    assert len(table) == 20 + 15 * 4
    assert table["activation"].iloc[0] == 7.5 and table["group"].unique().tolist()[:2] == ["top", "7 – 7.5"]
    assert (table["token"].str.len() <= table["window"].str.len()).all()


def test_several_pages_have_a_table_of_features():
    pages = FeaturePages([made_page(3), made_page(9, label=Label(""))])
    assert pages.table["feature"].tolist() == [3, 9] and pages.table["label"].tolist() == ["Lakers players", ""]
    assert repr(pages).count("Feature ") == 2
