"""The other ways to find features: each gives what a plain computation gives, and says what cannot be asked."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_models import D_MODEL, D_SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.bench import Workbench
from workbench.circuits.depth.logit_lens import logit_lens
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.attribution import integrate
from workbench.features.index.index import build_index
from workbench.features.probes import probe as probe_module
from workbench.features.probes.probe import Probes, probe
from workbench.features.search.search import Filters, filtered
from workbench.model.hooks import hooked
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens
from workbench.sae.config import SAEConfig
from workbench.sae.evaluate import evaluate
from workbench.sae.sae import SAE

PROMPT = "the cat sat on the mat"
POSITIVE, NEGATIVE = ["the cat sat", "a cat ran", "the cat on the mat"], ["the dog ran", "and the mat", "to the dog"]


@pytest.fixture
def bench(model, sae) -> Workbench:
    return Workbench(model=model, sae=sae, labels={3: "a cat, asleep", 5: "Cat", 7: "dogs"}, saes={"own": sae})


def dense(bench: Workbench, prompt: str) -> torch.Tensor:
    acts = bench.sae.encode(bench.model.run_with_cache(prompt)[1][bench.sae.cfg.hook_name][0])
    acts[0] = 0
    return acts


@pytest.mark.parametrize("token", [" sat", "sat", 3])
def test_the_features_of_a_token_are_those_most_active_at_it(bench: Workbench, token: str | int):
    found, acts = bench.find_at(PROMPT, token, top=5).table, dense(bench, PROMPT)[3]
    assert found["feature"].tolist() == acts.argsort(descending=True)[:5].tolist()
    assert found["activation"].tolist() == pytest.approx(acts.sort(descending=True).values[:5].tolist(), rel=1e-4)


def test_what_an_index_never_saw_active_is_as_rare_as_can_be_and_has_no_share_of_its_largest(bench: Workbench, tmp_path):
    with_index = replace(
        bench, index=build_index(bench.model, bench.sae, ["the mat", "a mat", "on mat"], tmp_path / "index", progress=False)
    )
    table = with_index.index.table.set_index("feature")
    acts = dense(bench, PROMPT).amax(0)
    never = [i for i in range(D_SAE) if table.loc[i, "n_active"] == 0 and acts[i] > 0]
    assert never
    shares = with_index.find_at(PROMPT, top=D_SAE).table.set_index("feature")["share_of_max"]
    assert shares[never].isna().all() and np.isfinite(shares.drop(never)).all()
    levels = np.full((len(never), 1), 0.01)  # below a sixteenth of 1
    assert with_index._rarity.bits(np.array(never), levels).ravel() == pytest.approx(np.log2(3 + 1))


def test_of_a_token_that_comes_twice_the_last_one_is_meant(bench: Workbench):
    assert "position 5" in bench.find_at(PROMPT, " the").wants


def test_without_a_token_the_largest_anywhere_counts_and_the_start_token_does_not(bench: Workbench):
    found, acts = bench.find_at(PROMPT, top=5).table, dense(bench, PROMPT).amax(0)
    assert found["feature"].tolist() == acts.argsort(descending=True)[:5].tolist()


def test_nearest_are_the_largest_cosines_without_the_feature_itself(bench: Workbench):
    rows = torch.nn.functional.normalize(bench.sae.W_dec, dim=1)
    order = (rows @ rows[3]).argsort(descending=True).tolist()
    assert bench.find_near(3, top=4).table["feature"].tolist() == order[1:5]
    assert bench.find_near(2 * bench.sae.W_dec[3], top=4).table["feature"].tolist() == order[:4]
    assert bench.find_near(np.int64(3), top=4).table["feature"].tolist() == order[1:5]  # as a ranking's table has it
    assert bench.find_near(bench.sae.W_dec[3].numpy(), top=4).table["feature"].tolist() == order[:4]


def test_a_decoder_row_of_zeros_has_no_neighbors(bench: Workbench):
    bench.sae.W_dec[3] = 0
    with pytest.raises(ValueError, match="it points nowhere"):
        bench.find_near(3)


def test_a_classifier_of_what_is_active_nowhere_or_of_start_tokens_says_so(bench: Workbench):
    with pytest.raises(ValueError, match="is nothing but the start token"):
        bench.find_by_classifier(POSITIVE, [*NEGATIVE, bench.model.tokenizer.bos_token])
    bench.sae.b_enc -= 1e4
    with pytest.raises(ValueError, match="no feature of this SAE is active on these prompts"):
        bench.find_by_classifier(POSITIVE, NEGATIVE)


def test_where_activations_depend_on_what_is_read_together_it_is_said(bench: Workbench, monkeypatch):
    """A BatchTopK SAE whose files have no threshold."""
    together = SAE(SAEConfig(D_MODEL, D_SAE, "blocks.1.hook_resid_pre", architecture="batchtopk", k=4))
    together.load_state_dict(bench.sae.state_dict())
    apart = Workbench(model=bench.model, sae=together.requires_grad_(False))
    said = "picks among all tokens that are read together"
    assert any(said in note for note in apart.rank(PROMPT, logit_diff(" dog", " cat"), progress=False).notes)
    assert said in repr(apart)
    for search in ("find", "find at", "attribution", "classifier"):
        found = ASKED[search](apart)
        assert said in found.note, search
    reranked = filtered(apart.find(POSITIVE, NEGATIVE).codes, len(POSITIVE), Filters(), apart._known_beside)
    assert said in reranked.note  # as the pane does when a filter is moved
    notes = "".join(ASKED["rank many"](apart).notes)  # what all rankings note is said, and not only that they note something
    assert said in notes and "notes of their own" not in notes
    judged = Probes(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), 10, 10, ("few",))
    monkeypatch.setattr(probe_module, "judged", lambda *args, **options: judged)
    assert said in ASKED["probe"](apart).notes[0] and ASKED["probe"](bench).notes == ("few",)
    assert said not in bench.find(POSITIVE, NEGATIVE).note + repr(bench)


ASKED = {
    "rank": lambda bench: bench.rank(PROMPT, logit_diff(" dog", " cat"), progress=False),
    "rank many": lambda bench: bench.rank_many([PROMPT, PROMPT], logit_diff(" dog", " cat"), progress=False),
    "find": lambda bench: bench.find(POSITIVE, NEGATIVE),
    "find at": lambda bench: bench.find_at(PROMPT),
    "attribution": lambda bench: bench.find_by_attribution(PROMPT, logit_diff(" dog", " cat")),
    "integrated gradients": lambda bench: integrate(bench.model, bench.sae, to_tokens(bench.model, PROMPT), logit_diff(" dog", " cat")),
    "classifier": lambda bench: bench.find_by_classifier(POSITIVE, NEGATIVE),
    "probe": lambda bench: probe(bench, [f"a{i}" for i in range(10)], [f"b{i}" for i in range(10)], progress=False),
    "evaluate": lambda bench: evaluate(bench.model, bench.sae, POSITIVE, progress=False),
    "index": lambda bench: build_index(bench.model, bench.sae, POSITIVE, bench.folder, progress=False),
}


@pytest.mark.parametrize("name", ASKED)
def test_activations_that_are_no_numbers_are_told_not_read_as_silence(broken, name: str):
    with pytest.raises(ValueError, match="activations at blocks.1.hook_resid_pre hold .* NaN or infinite values"):
        ASKED[name](broken)


def test_the_logit_lens_tells_them_too(broken):
    with pytest.raises(ValueError, match=r"activations at blocks\.0\.hook_resid_pre to .* hold .* NaN or infinite values"):
        logit_lens(broken.model, PROMPT)


def test_a_metric_that_is_no_number_is_told(bench: Workbench):
    with (
        hooked(bench.model, "blocks.3.hook_resid_post", lambda x: x * torch.nan),
        pytest.raises(ValueError, match="the metric is NaN or infinite on this prompt"),
    ):
        bench.rank(PROMPT, logit_diff(" dog", " cat"), progress=False)


@pytest.fixture
def broken(folder_of, sae, tmp_path) -> Any:
    """A weight of its first block is NaN."""
    model = AutoModelForCausalLM.from_pretrained(folder_of("gpt2"))
    model.transformer.h[0].mlp.c_proj.bias.data[0] = torch.nan
    bench = Workbench(model=load_model(model, tokenizer=AutoTokenizer.from_pretrained(folder_of("gpt2"))), sae=sae)
    object.__setattr__(bench, "folder", tmp_path / "index")
    return bench


def test_labels_are_found_by_all_their_words_in_any_case(bench: Workbench):
    assert bench.find_by_label("CAT").table["feature"].tolist() == [5, 3]
    assert bench.find_by_label("asleep cat").table["feature"].tolist() == [3]
    assert "no feature passes" in repr(bench.find_by_label("cat%_'"))


def test_attribution_finds_the_features_whose_products_sum_highest(bench: Workbench):
    from workbench.circuits.ranking.attribution import attribute
    from workbench.model.tokens import to_tokens

    metric = logit_diff(" dog", " cat")
    found = bench.find_by_attribution(PROMPT, metric, top=5).table
    total = attribute(bench.model, bench.sae, to_tokens(bench.model, PROMPT), metric).attribution[1:].sum(0)
    assert found["feature"].tolist() == total.argsort(descending=True)[:5].tolist()
    assert found["score"].min() > 0


def test_a_classifier_is_led_by_the_feature_that_only_one_set_has(bench: Workbench):
    bench.sae.W_enc[:, 9] = 0.0
    bench.sae.b_enc[9] = -1.0
    cat = bench.model.run_with_cache("the cat")[1][bench.sae.cfg.hook_name][0, -1]
    dog = bench.model.run_with_cache("the dog")[1][bench.sae.cfg.hook_name][0, -1]
    bench.sae.W_enc[:, 9] = 40 * (cat - dog) / (cat - dog).norm() ** 2
    bench.sae.b_enc[9] = -20 * (cat - dog) @ (cat + dog) / (cat - dog).norm() ** 2 - 10
    found = bench.find_by_classifier(["the cat", "the cat sat", "the cat ran"], ["the dog", "the dog sat", "the dog ran"], top=64)
    assert found.table["feature"][0] == 9 and found.table["mean_positive"][0] > found.table["mean_negative"][0]
    assert "100% on prompts that the classifier did not see" in found.note


def test_a_classifier_of_sets_that_do_not_differ_is_no_better_than_chance(bench: Workbench):
    prompts = [f"the {word} {verb}" for word in ("cat", "dog", "mat") for verb in ("sat", "ran", "and", "on")]
    shuffled = np.random.default_rng(3).permutation(prompts).tolist()
    note = bench.find_by_classifier(shuffled[:6], shuffled[6:]).note
    assert float(note.split("%")[0].split()[-1]) <= 75


WRONG = {
    "' sit' is no token of the prompt, which reads .*did you mean ' sat'": lambda bench: bench.find_at(PROMPT, " sit"),
    r"' Zebra' is no token of the prompt, which reads .*' mat'$": lambda bench: bench.find_at(PROMPT, " Zebra"),
    "position 0 is not in the prompt: its tokens stand at 1 to 6": lambda bench: bench.find_at(PROMPT, 0),
    "the prompt is empty": lambda bench: bench.find_at(" "),
    "feature 64 is out of range": lambda bench: bench.find_near(64),
    "has 32 numbers, not": lambda bench: bench.find_near(torch.ones(31)),
    "points nowhere": lambda bench: bench.find_near(torch.zeros(32)),
    "holds no word": lambda bench: bench.find_by_label(" !"),
    "no feature of this SAE has a label": lambda bench: Workbench(model=bench.model, sae=bench.sae).find_by_label("cat"),
    "one positive prompt is too few": lambda bench: bench.find_by_classifier(["a"], NEGATIVE),
    "there is no negative prompt": lambda bench: bench.find_by_classifier(POSITIVE, ["a"]),
    "' zebra' is": lambda bench: bench.find_by_attribution(PROMPT, logit_diff(" zebra")),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_asked_is_said(bench: Workbench, message: str):
    with pytest.raises(ValueError, match=message):
        WRONG[message](bench)


def test_words_that_no_label_holds_name_the_nearest_labels_or_some(bench: Workbench):
    assert bench.find_by_label("dog cats").note == "no label holds these words; the nearest are 'dogs', 'Cat'"
    assert bench.find_by_label("zebra").note == "no label holds these words; labels are such as 'a cat, asleep', 'Cat'"
    assert not bench.find_by_label("cat").note


def test_why_asks_for_a_feature_that_is_there(bench: Workbench):
    with pytest.raises(ValueError, match="feature 99999 is out of range: this SAE has features 0 to 63"):
        bench.find_at(PROMPT).why(99_999)


def test_every_way_shows_itself(bench: Workbench):
    ways = [bench.find_at(PROMPT), bench.find_near(3), bench.find_by_label("cat"), bench.find_by_classifier(POSITIVE, NEGATIVE)]
    for found in [*ways, bench.find_by_attribution(PROMPT, logit_diff(" dog", " cat"))]:
        assert f"{found.table['feature'][0]:,}" in found._repr_html_() and repr(found).startswith("Found: features ")
