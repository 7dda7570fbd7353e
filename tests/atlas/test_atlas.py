"""The bundled atlas: its model answers, its answer key lies on its tokens, attribution predicts effects."""

import copy

import pytest
import torch

from workbench import atlas
from workbench.atlas.truth import AnswerKey, accuracy, score_rankings
from workbench.atlas.world import world
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.model.hooks import hooked
from workbench.model.model import load_model
from workbench.model.tokens import answer_token, to_tokens

KOBE = "Fact: The capital of the state where Kobe Bryant played basketball is"
RIVAL = "Fact: The biggest rival of the team for which Kobe Bryant played basketball is the"
JOHN = 'John says, "I want to be alone right now." John feels'


@pytest.fixture(scope="module")
def bench():
    return atlas.load()


@pytest.mark.parametrize(("prompt", "answer"), [(KOBE, " Sacramento"), (JOHN, " sad"), (RIVAL, " Celtics")])
def test_the_paper_s_prompts_are_answered(bench, prompt: str, answer: str):
    assert bench.model.forward(to_tokens(bench.model, prompt))[0, -1].argmax().item() == answer_token(bench.model, answer)


def test_questions_are_answered_held_out_ones_too(bench):
    assert accuracy(bench.model, atlas.questions(held_out=False))["is_right"].mean() >= 0.95
    assert accuracy(bench.model, atlas.questions(held_out=True))["is_right"].mean() >= 0.90


def test_every_answer_of_the_world_is_a_single_token(bench):
    for value in set(world().value.values()):
        answer_token(bench.model, f" {value}")


def test_concepts_lie_on_the_token_that_completes_the_name(bench):
    question = atlas.questions()[0]
    str_tokens = bench.model.tokenizer.batch_decode([[token] for token in bench.model.tokenizer(str(question.prompt))["input_ids"]])
    concepts = atlas.concepts(question.prompt)
    str_tokens = [token for token in str_tokens if token != bench.model.tokenizer.bos_token]
    assert len(concepts) == len(str_tokens)
    assert "capital-of" in concepts[str_tokens.index(" capital")]
    assert "team:Lakers" not in concepts[str_tokens.index(" Bryant") - 1]
    assert {"player:Kobe Bryant", "team:Lakers", "city:Los Angeles", "state:California"} <= concepts[str_tokens.index(" Bryant")]


def test_a_string_of_one_s_own_has_no_answer_key():
    with pytest.raises(ValueError, match=r"atlas\.texts"):
        atlas.concepts("Kobe Bryant")


def test_effects_equal_hooked_forward_passes(bench):
    """In float64: the bundled model's logits are a hundred times some effects, so float32's rounding alone comes to 1e-4 of these."""
    model, sae = load_model(atlas.WEIGHTS / "model", dtype=torch.float64), copy.deepcopy(bench.sae).double()
    tokens, metric = to_tokens(model, KOBE), logit_diff(" Sacramento", " Albany")
    found = attribute(model, sae, tokens, metric)
    pairs = found.pairs[found.of(found.pairs).abs().argsort(descending=True)][:: len(found.pairs) // 20]  # the largest, and others
    resolved = metric.resolve(model)
    clean = resolved(model.forward(tokens)[:, -1])
    expected = []
    for pos, feature in pairs.tolist():

        def without(x, pos=pos, feature=feature):
            x = x.clone()
            x[:, pos] -= found.feature_acts[pos, feature] * sae.W_dec[feature]
            return x

        with hooked(model, sae.cfg.hook_name, without):
            expected.append(clean - resolved(model.forward(tokens)[:, -1]))
    effects = ablate(model, sae, tokens, metric, pairs=pairs, progress=False)
    expected = torch.cat(expected).to(effects)
    assert (effects - expected).abs().max() <= 1e-9 * expected.abs().max()


def test_every_width_of_the_atlas_loads_with_labels_and_examples(bench):
    for name, sae in bench.saes.items():
        assert atlas.load(sae=name).labels, name
        assert sae.cfg.hook_name == bench.sae.cfg.hook_name
    feature = next(iter(bench.labels))
    examples = bench.examples(feature, 3)
    peaks = [max(example.activations) for example in examples]
    assert len(examples) == 3 and peaks == sorted(peaks, reverse=True) and peaks[-1] > 0
    assert all(len(example.activations) == len(example.str_tokens) for example in examples)


def test_an_sae_that_the_atlas_lacks_is_named():
    with pytest.raises(ValueError, match="no SAE called '3k'"):
        atlas.load(sae="3k")


def test_the_bundled_files_are_at_most_60_mb():
    assert sum(path.stat().st_size for path in atlas.WEIGHTS.rglob("*")) <= 60e6


def test_attribution_predicts_effects_and_activation_does_not(bench):
    key = AnswerKey.read(bench.model, bench.sae, atlas.texts(seed=3, n=2000))
    agreements, steps = score_rankings(bench, key, atlas.questions()[:24])
    medians = agreements[["attribution_correlation", "activation_correlation", "attribution_overlap"]].median()
    assert medians["attribution_correlation"] >= 0.8
    assert medians["attribution_correlation"] - medians["activation_correlation"] >= 0.4
    assert medians["attribution_overlap"] >= 8
    assert set(steps["kind"]) == {"player", "team", "city", "state", "relation"}
    assert steps[steps["order"] == "effect"]["is_found"].mean() >= 0.5
