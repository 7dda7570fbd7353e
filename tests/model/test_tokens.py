"""A token is its number, and its text shows its space; what a tokenizer cannot read is said."""

import json

import numpy as np
import pytest
import torch
from made_models import random_hf_model, random_sae
from made_tokenizers import ALPHABET, byte_tokenizer, pieces_tokenizer, words_tokenizer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from workbench.activations.rows import Rows
from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import build_index
from workbench.model.model import load_model
from workbench.model.tokens import answer_token, distinct_str_tokens, to_str_tokens, to_tokens


@pytest.fixture(scope="module")
def pieces():
    return load_model(random_hf_model("llama"), tokenizer=pieces_tokenizer())


@pytest.fixture(scope="module")
def words():
    return load_model(random_hf_model("llama"), tokenizer=words_tokenizer())


def test_sentencepiece_tokens_keep_their_spaces(pieces):
    shown = to_str_tokens(pieces, to_tokens(pieces, "the in thein France é"))
    assert shown == ["<s>", " the", " in", " the", "in", " France", " ", "<0xC3>", "<0xA9>"]
    assert to_str_tokens(pieces, to_tokens(pieces, "in\n"))[-1] == "\n"


def test_pieces_with_and_without_a_space_are_two_answers(pieces):
    tokenizer = pieces.tokenizer
    for text, piece in ((" in", "▁in"), ("in", "in"), (" France", "▁France"), ("France", "▁France"), ("▁in", "▁in"), (" ", "▁")):
        assert tokenizer.convert_ids_to_tokens(answer_token(pieces, text)) == piece
    every = to_str_tokens(pieces, torch.arange(len(tokenizer)))
    for token, text in enumerate(every):
        if token > 2 and "<0x" not in tokenizer.convert_ids_to_tokens(token):
            assert answer_token(pieces, text) == token or every.count(text) > 1


def test_wordpiece_tokens_show_where_words_begin(words):
    shown = to_str_tokens(words, to_tokens(words, "the cats cat catcat."))
    assert shown == [" the", " cat", "s", " cat", " cat", "cat", " ."]
    assert answer_token(words, " cat") == answer_token(words, "cat") == 3 and answer_token(words, "##s") == 4
    assert to_str_tokens(words, torch.tensor([0, 1])) == ["[UNK]", "[CLS]"]


def test_tokens_that_read_alike_are_told_apart_by_their_numbers(pieces):
    letter, byte = pieces.tokenizer.convert_tokens_to_ids(["a", "<0x61>"])
    assert distinct_str_tokens(pieces, [letter, byte]) == ["a", f"a <{byte}>"]
    assert distinct_str_tokens(pieces, [letter], taken=["a"]) == [f"a <{letter}>"]


def test_no_next_token_takes_anothers_probability(pieces):
    bench = Workbench(model=pieces, sae=random_sae())
    steering = bench.steer("the in", {3: 1.0}, max_new_tokens=1, max_act={3: 1.0}, tokens=[" in", "a"], progress=False)
    probabilities = pieces(to_tokens(pieces, "the in"))[0, -1].softmax(-1)
    found = steering.continuations[0].next_tokens
    assert len(found) >= 50 and found[" in"] == pytest.approx(probabilities[answer_token(pieces, " in")].item(), rel=1e-4)
    top = probabilities.topk(50).values
    assert sorted(found.values(), reverse=True)[:50] == pytest.approx(top.tolist(), rel=1e-4)


def test_half_a_character_in_a_prompt_is_refused_and_a_pair_in_a_text_is_its_character(pieces):
    with pytest.raises(ValueError, match=r"half of a character, '\\ud83d', at position 4"):
        to_tokens(pieces, "the \ud83d cat")
    with pytest.raises(ValueError, match=r"half of a character"):
        Workbench(model=pieces, sae=random_sae()).find(["the \udc00"])


def test_where_everything_is_unknown_it_is_an_error_and_from_a_hundredth_on_a_line(words, tmp_path):
    sae = random_sae()
    bench = Workbench(model=words, sae=sae)
    with pytest.raises(ValueError, match=r"knows nothing of 'zebra gnu': all 2 tokens are '\[UNK\]'"):
        bench.rank("zebra gnu", logit_diff(5, 6))
    with pytest.raises(ValueError, match="all 2 tokens are unknown"):
        list(Rows(words, ["zebra gnu"]))
    with pytest.raises(ValueError, match="all 3 tokens are unknown"):
        build_index(words, sae, ["zebra", "gnu gnu"], tmp_path / "none", progress=False)
    assert bench.rank("the cat zebra cat", logit_diff(5, 6), ablate=1).notes == (
        "25.0% of the 4 tokens of the prompt are unknown to the tokenizer",
    )
    assert bench.rank("the cat cat", logit_diff(5, 6), ablate=1).notes == ()
    index = build_index(words, sae, ["the cat", "zebra cat"], tmp_path / "some", progress=False)
    assert index.facts()["unknown"].startswith("25.0% of the 4 tokens")
    assert "the [UNK] cat" not in bench.rank("the cat [UNK]", logit_diff(5, 6), ablate=1).notes  # spelled out, it is a token


@pytest.fixture(scope="module")
def letters():
    """Of `é`, two bytes, there is a token; of `ñ`, two bytes, none. Both are also how the bytes E9 and F1 are written."""
    made = byte_tokenizer(("<s>",))
    state = json.loads(made.backend_tokenizer.to_str())
    state["model"]["vocab"]["Ã©"] = len(ALPHABET) + 1
    state["model"]["merges"] = [["Ã", "©"]]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token="<s>")
    return load_model(random_hf_model("gpt2"), tokenizer=tokenizer)


def test_a_letter_is_its_own_token_not_the_byte_that_is_written_so(letters):
    assert answer_token(letters, "é") == len(ALPHABET) + 1 == letters.tokenizer("é")["input_ids"][-1]
    assert answer_token(letters, "Ã©") == len(ALPHABET) + 1  # its raw form
    byte = letters.tokenizer.convert_tokens_to_ids("ñ")
    with pytest.raises(ValueError, match=f"'ñ' is 2 tokens.*'ñ' as a part of a character is {byte}"):
        answer_token(letters, "ñ")
    with pytest.raises(ValueError, match=r"You can ask for its first token, 'ð' by its number, \d+"):
        answer_token(letters, "🦊")
    assert to_str_tokens(letters, torch.tensor([answer_token(letters, byte)])) == ["ñ"]


@pytest.mark.parametrize("kind", [int, np.int64, torch.tensor])
def test_a_token_is_asked_for_by_its_number_of_any_kind(pieces, kind):
    assert answer_token(pieces, kind(5)) == 5 and type(answer_token(pieces, kind(5))) is int
    with pytest.raises(ValueError, match="token 300 is not in the vocabulary"):
        answer_token(pieces, kind(300))
