"""A conversation is written out once by the tokenizer's template, and every token knows whose it is."""

import pytest
from made_models import random_hf_model, random_sae
from made_tokenizers import byte_tokenizer

from workbench.bench import Workbench
from workbench.circuits.depth.heads import head_effects
from workbench.circuits.depth.layers import trace_steps
from workbench.circuits.evidence.controls import controls
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.model.chat import TEMPLATE, Speaker, speakers, written
from workbench.model.model import load_model
from workbench.model.tokens import to_str_tokens, to_tokens

PLAIN = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content | trim }}|{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
LED = "{{ bos_token }}" + PLAIN
CHAT = [{"role": "system", "content": "be s"}, {"role": "user", "content": " user "}, {"role": "assistant", "content": "s"}]


def model_with(template: str | None, **options):
    tokenizer = byte_tokenizer(("<s>", "</s>"), bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return load_model(random_hf_model("llama"), tokenizer=tokenizer, **options)


@pytest.fixture(scope="module")
def model():
    return model_with(LED)


def test_the_template_writes_a_conversation_once_with_one_start_token(model):
    text = written(model, CHAT[:2])
    assert text == "<s><s>be s|<u>user|<a>"
    tokens = to_tokens(model, text)[0].tolist()
    assert tokens[0] == 0 and tokens.count(0) == 2 and len(tokens) == 2 + len("be s|<u>user|<a>")  # "<s>" of the system is a token too
    assert to_tokens(model_with(PLAIN), written(model_with(PLAIN), CHAT[1:2])).tolist()[0][0] == 0
    assert written(model, CHAT).endswith("<a>s")  # goes on with what the assistant said


@pytest.mark.parametrize(
    "template", [PLAIN.replace("<{{ m.role[0] }}>", "[{{ m.role }}]"), "{{ bos_token }}[{{ messages[0].role }}] " + PLAIN]
)
def test_every_token_knows_its_message_and_what_the_template_wrote(template):
    model = model_with(template)
    for start in (True, False):
        model = model_with(template, **({} if start else {"start_token": None}))
        tokens, found = to_tokens(model, written(model, CHAT[:2])), speakers(model, CHAT[:2])
        read = "".join(text for text, who in zip(to_str_tokens(model, tokens), found, strict=True) if who == Speaker("user", 1))
        assert read == "user" and found[-1] == Speaker(TEMPLATE, 2)
        said = "".join(text for text, who in zip(to_str_tokens(model, tokens), found, strict=True) if who.role == "system")
        assert said == "be s"


def test_a_template_that_rewrites_messages_leaves_roles_untold():
    model = model_with("{% for m in messages %}{{ m.content | upper }}{% endfor %}")
    assert set(speakers(model, CHAT[:2])) == {Speaker("", -1)}


def test_roles_and_turns_are_columns_of_a_ranking_and_the_written_text_ranks_the_same(model):
    bench = Workbench(model=model, sae=random_sae())
    ranking = bench.rank(CHAT[:2], logit_diff(5, 6), ablate=3, progress=False)
    who = speakers(model, CHAT[:2])
    assert all((row.role, row.turn) == who[row.pos] for row in ranking.table.itertuples())
    assert set(ranking.table["role"]) == {"system", "user", TEMPLATE} and ranking.table["pos"].min() == 1
    plain = bench.rank(ranking.prompt, logit_diff(5, 6), ablate=3, progress=False)
    assert plain.table.equals(ranking.table[plain.table.columns])
    assert "role" in ranking.top(3) and "prompt" not in bench.rank("a b", logit_diff(5), ablate=1).table


def test_searches_and_steering_take_conversations(model):
    bench, text = Workbench(model=model, sae=random_sae()), written(model, CHAT[:2])
    assert bench.find([CHAT[:2]], ["a dog"]).table.equals(bench.find([text], ["a dog"]).table)
    assert bench.find_at(CHAT[:2]).table.equals(bench.find_at(text).table)
    options = dict(max_new_tokens=2, max_act={3: 1.0}, progress=False)
    assert bench.steer(CHAT[:2], {3: 2.0}, **options).table.equals(bench.steer(text, {3: 2.0}, **options).table)


def test_circuits_swaps_and_evidence_take_conversations(model):
    bench, text, metric = Workbench(model=model, sae=random_sae()), written(model, CHAT[:2]), logit_diff(5, 6)
    saes, quiet = {f"blocks.{k}.hook_resid_pre": random_sae(f"blocks.{k}.hook_resid_pre") for k in (1, 2)}, dict(progress=False)
    circuits = [bench.circuit(prompt, metric, saes=saes, limit=6, **quiet) for prompt in (CHAT[:2], text)]
    assert circuits[0].edges.equals(circuits[1].edges) and circuits[0].prompt == text
    members = {"blocks.1.hook_resid_pre": [3]}
    swaps = [bench.swap(prompt, members, members, saes=saes, source=text) for prompt in (CHAT[:2], text)]
    assert swaps[0].table.equals(swaps[1].table)
    sets = [FeatureSets(bench, prompt, metric) for prompt in (CHAT[:2], text)]
    assert sets[0].clean_metric == sets[1].clean_metric and sets[0].prompt == text
    both = [controls(bench, prompt, metric, n=2, other=prompt, **quiet) for prompt in (CHAT[:2], text)]
    assert both[0].by_kind().equals(both[1].by_kind()) and both[0].prompt == text
    traces = [trace_steps(bench, saes, prompt, metric, {"a step": members}, **quiet) for prompt in (CHAT[:2], text)]
    assert traces[0].table.equals(traces[1].table) and traces[0].prompt == text
    feature = int(bench.rank(text, metric, ablate=3, **quiet).table["feature"].iloc[0])
    heads = [head_effects(bench, prompt, metric, feature) for prompt in (CHAT[:2], text)]
    assert heads[0].table.equals(heads[1].table)
    for refused in (
        lambda: bench.circuit([], metric, saes=saes),
        lambda: FeatureSets(bench, [], metric),
        lambda: controls(bench, [], metric),
    ):
        with pytest.raises(ValueError, match="conversation"):
            refused()


@pytest.mark.parametrize(
    ("chat", "says"),
    [
        ([], "conversation is empty"),
        ({"role": "user", "content": "x"}, "is one message; a conversation is a list"),
        ([{"role": "user"}], "message 1 lacks its content"),
        ([{"role": "user", "content": "x", "name": "y"}], "message 1 has 'name'"),
        ([{"role": "user", "content": ["x"]}], "content of message 1 is of type list"),
        (["x"], "of type list; expected a string, or messages"),
        (3, "of type int; expected a string, or messages"),
    ],
)
def test_what_is_no_conversation_is_refused(model, chat, says):
    with pytest.raises(ValueError, match=says):
        written(model, chat)


def test_a_tokenizer_without_a_template_and_a_template_that_refuses_say_so(model):
    with pytest.raises(ValueError, match="no chat template"):
        written(model_with(None), CHAT)
    with pytest.raises(ValueError, match="refuses the conversation: first the user"):
        written(model_with("{% set x = messages[0].content %}{{ raise_exception('first the user') }}"), CHAT[:2])
