"""Sets that take a behavior away from many prompts: equal to hooked passes, found where they were planted, refused where nothing can be."""

import re
from dataclasses import replace

import pytest
import torch
from made_bench import made_bench, sparse_sae
from made_models import FAMILIES

from workbench.circuits.evidence.many import AT_LEAST, AT_MOST, OFF, Clamp, Prompt
from workbench.circuits.evidence.minimal import MinimalSets, _notes, minimal_sets
from workbench.circuits.intervene import editing
from workbench.circuits.metrics import logit_diff, resolve
from workbench.model.hooks import last_logits
from workbench.model.tokens import to_tokens

WHO, WHERE = ("cat", "dog"), ("sat on", "ran to the dog", "and the cat", "on the mat")
TEXTS = [f"the {who} {where}{end}" for who in WHO for where in WHERE for end in ("", " and", " the")]


@pytest.fixture(scope="module")
def bench(model_of):
    return made_bench(model_of("gpt2"), sparse_sae())


@pytest.fixture(scope="module")
def behavior(bench) -> tuple[list[str], list[str], object]:
    """(prompts with it, without it, the metric): two tokens that are ahead of each other about as often."""
    logits = torch.stack([last_logits(bench.model, to_tokens(bench.model, text))[0] for text in TEXTS])
    spread = logits.std(0).argsort(descending=True)[:40].tolist()
    metric = max(
        (logit_diff(a, b) for a in spread for b in spread if a != b),
        key=lambda each: -abs(float((logits[:, each.answer] > logits[:, each.baseline]).float().mean()) - 0.5),
    )
    values = (logits[:, metric.answer] - logits[:, metric.baseline]).tolist()
    return *([text for text, value in zip(TEXTS, values, strict=True) if (value > 0) == side] for side in (True, False)), metric


@pytest.fixture(scope="module")
def found(bench, behavior) -> MinimalSets:
    present, absent, metric = behavior
    return minimal_sets(bench, present, absent, metric, most=3, spare=0.9, progress=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("at_last", [False, True])
def test_clamps_on_a_prompt_equal_a_hooked_pass(model_of, family: str, at_last: bool):
    model, sae, metric = model_of(family), sparse_sae(), logit_diff(5, 7)
    bench, tokens = made_bench(model, sae), to_tokens(model, TEXTS[0])
    prompt = Prompt(bench, TEXTS[0], metric, at_last)
    active = prompt.acts.amax(0).argsort(descending=True)[:3].tolist()
    clamps = [
        Clamp(active[0], OFF),
        Clamp(active[1], AT_MOST, 0.5 * float(prompt.acts[:, active[1]].max())),
        Clamp(active[2], AT_LEAST, 3.0),
    ]
    sets = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    metrics, answers = prompt.metrics(clamps, sets), prompt.answers(clamps, sets)
    first = tokens.shape[1] - len(prompt.acts)
    for row, chosen in enumerate(sets):

        def edit(acts: torch.Tensor, chosen: torch.Tensor = chosen) -> torch.Tensor:
            edited = acts.clone()
            for clamp, is_in in zip(clamps, chosen.tolist(), strict=True):
                if is_in:
                    edited[..., clamp.feature] = clamp.of(acts[..., clamp.feature])
            return edited

        with editing(model, sae, edit, list(range(first, tokens.shape[1]))):
            logits = last_logits(model, tokens)
        assert metrics[row] == pytest.approx(float(resolve(model, metric)(logits)[0]), abs=2e-4)
        assert answers[row] == int(logits[0].argmax())
    assert metrics[4] == prompt.metric and answers[4] == prompt.answer


def test_what_it_reports_is_what_the_set_does_on_prompts_it_was_not_chosen_on(bench, behavior, found):
    present, absent, metric = behavior
    table = found.removing.table
    assert len(table) and table["feature"].is_unique
    gone = []
    for text in present:
        with editing(bench.model, bench.sae, found.removing.edit):
            gone.append(float(resolve(bench.model, metric)(last_logits(bench.model, to_tokens(bench.model, text)))[0]) <= 0)
    n = len(present)
    both = table["share"].iloc[-1] * ((n + 1) // 2) + table["held_out"].iloc[-1] * (n // 2)
    assert sum(gone) == pytest.approx(both, abs=1.01)  # the start token is clamped here, and is not there
    assert found.removing.n_held_out == n // 2 and found.removing.n_others == len(absent) // 2


def test_roles_follow_from_how_a_feature_is_held(found):
    for each, up in ((found.removing, "inhibitor"), (found.giving, "activator")):
        assert set(each.table.loc[each.table["held"] == AT_LEAST, "role"]) <= {up}
        assert up not in set(each.table.loc[each.table["held"] != AT_LEAST, "role"])
    assert found.giving.table["others"].isna().all()


def test_it_shows_itself_with_labels_as_text(found):
    assert re.search(r"(1 feature taken down or up takes|\d+ features taken down or up take) it away: in \d+% of", found.verdict)
    assert "random sets" in repr(found)
    assert replace(found.giving, table=found.giving.table[:0]).said("give", "it") == "No feature gives it."
    markup = replace(found, removing=replace(found.removing, table=found.removing.table.assign(label="<script>x")))._repr_html_()
    assert "<script" not in markup and "&lt;script&gt;x" in markup and "held out" in markup


def test_what_cannot_be_asked_is_one_sentence(bench, behavior):
    present, absent, metric = behavior
    wrong = {
        "absent is one string": (present, "one text", {}),
        "0 different prompts in absent": (present, [], {}),
        "9 different prompts in present": (present[:9], absent, {}),
        "stands among the prompts with the behavior and among others": (present, [*absent, present[0]], {}),
        r"is there on 0 of \d+ prompts with it: expected 10": (absent, present, {}),
        "expected the share of other answers": (present, absent, dict(spare=2.0)),
        "expected how many features": (present, absent, dict(most=0)),
    }
    for message, (a, b, options) in wrong.items():
        with pytest.raises(ValueError, match=message):
            minimal_sets(bench, a, b, metric, **options, progress=False)


def test_prompts_that_do_not_fit_their_kind_and_words_that_tell_are_said(bench, behavior):
    present, absent, metric = behavior
    mixed = minimal_sets(bench, [*present, absent[0]], absent[1:], metric, most=1, spare=0.5, progress=False)
    assert any(note.startswith(f"1 of {len(present) + 1} prompts with it are left out") for note in mixed.notes)


def test_a_word_that_gives_the_behavior_away_is_named(bench, behavior):
    present, absent, metric = behavior
    sets = {"present": [f"ran ran {text}" for text in present], "absent": [text for text in absent if "ran" not in text]}
    (note,) = _notes(bench, sets, metric)
    assert re.search(r"'\S*ran\S*' stands in every prompt with the behavior and in none without", note.replace("ran', ' ran", "ran"))
