"""Texts become rows of tokens: every token once, in order, start tokens where the docstring says."""

import pytest
import torch
from made_models import N_CTX, random_hf_model

from workbench.activations.rows import Position, Row, Rows, as_batch, padded
from workbench.model.model import load_model

TEXTS = ["the cat sat", "", "the dog ran to the mat and the cat sat on the dog " * 8, "and", "the mat"]
START = 0


def ids_of(model, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_document_a_row_and_a_long_one_goes_on_in_the_next(model):
    rows = list(Rows(model, TEXTS))
    assert all(row[0] == START and START not in row[1:] for row in rows)
    long = ids_of(model, TEXTS[2])
    assert len(long) > N_CTX
    assert rows[0][1:] == ids_of(model, TEXTS[0])
    assert [len(row) for row in rows[1:-2]] == [N_CTX] * (len(rows) - 4) + [1 + len(long) % (N_CTX - 1)]
    assert sum((row[1:] for row in rows[1:-2]), []) == long
    assert [row[1:] for row in rows[-2:]] == [ids_of(model, TEXTS[3]), ids_of(model, TEXTS[4])]


def test_packed_rows_hold_documents_end_to_end_each_led_by_a_start_token(model):
    a, b, c = (ids_of(model, text) for text in ("the cat sat", "and", "the mat"))
    assert list(Rows(model, ["the cat sat", "and", "the mat"], context=7)) == [[START, *a, START, *b], [START, *c]]
    assert list(Rows(model, ["the cat sat", "and", "the mat"], context=9)) == [[START, *a, START, *b, START, c[0]], [START, *c[1:]]]


@pytest.mark.parametrize("context", [None, 2, 5, 16])
def test_every_token_of_every_text_comes_once_in_order(model, context):
    found = [token for row in Rows(model, TEXTS, context) for token in row if token != START]
    assert found == sum((ids_of(model, text) for text in TEXTS), [])


@pytest.mark.parametrize("context", [None, 5])
@pytest.mark.parametrize("n_before", [0, 1, 2, 5])
def test_reading_on_from_any_row_gives_the_rest(model, context, n_before):
    whole = Rows(model, TEXTS * 3, context)
    rows = iter(whole)
    for _ in range(n_before):
        next(rows)
    other = Rows(model, TEXTS * 3, context)
    other.skip_to(whole.at)
    assert list(other) == list(rows)


def test_other_texts_are_noticed(model):
    read = Rows(model, TEXTS)
    list(read)
    with pytest.raises(ValueError, match="the texts end after 4, but 5 had been read"):
        Rows(model, TEXTS[:4]).skip_to(read.at)
    with pytest.raises(ValueError, match="these are other texts"):
        Rows(model, [*TEXTS[:4], "the mats"]).skip_to(read.at)


def test_start_tokens_and_padding_are_not_the_texts_own_and_the_same_token_inside_of_a_text_is(model):
    tokens, is_text = as_batch(model, [Row([START, 5, START, 6], starts=[0]), Row([START, START, 7], starts=[0, 1])])
    assert tokens.tolist() == [[START, 5, START, 6], [START, START, 7, START]]
    assert is_text.tolist() == [[False, True, True, True], [False, False, True, False]]


@pytest.mark.parametrize("context", [None, 16])
def test_a_text_that_begins_with_the_start_token_gets_no_second_one_and_keeps_those_inside(model, context):
    (row,) = Rows(model, ["<|start|>the cat<|start|>sat"], context)
    inside = ids_of(model, "the cat<|start|>sat")
    assert row == [START, *inside] and row.starts == (0,) and inside.count(START) == 1
    _, is_text = as_batch(model, [row])
    assert is_text[0].tolist() == [False] + [True] * len(inside)


def test_halves_of_characters_are_read_as_one_sign_and_pairs_as_their_character(model):
    rows = [list(Rows(model, [text]))[0] for text in ("the \ud83d cat", "the \ufffd cat", "a\ud83d\ude00", "a\U0001f600")]
    assert rows[0] == rows[1] and rows[2] == rows[3]


def test_padded_texts_are_cut_at_the_context_and_led_by_the_start_token(model):
    tokens, is_text = padded(model, TEXTS)
    assert tokens.shape == (5, N_CTX) and (tokens[:, 0] == START).all()
    assert is_text.sum(1).tolist() == [min(len(ids_of(model, text)), N_CTX - 1) for text in TEXTS]
    assert tokens[0, is_text[0]].tolist() == ids_of(model, TEXTS[0])


def test_a_model_without_a_start_token_gets_rows_of_text_only(tokenizer):
    model = load_model(random_hf_model("gpt2"), tokenizer=tokenizer, start_token=None)
    rows = list(Rows(model, ["the cat sat", "the mat"], context=3))
    assert rows == [ids_of(model, "the cat sat"), ids_of(model, "the mat")]
    tokens, is_text = as_batch(model, rows)
    assert is_text.sum(1).tolist() == [3, 2] and torch.equal(tokens[is_text], torch.tensor(sum(rows, [])))


@pytest.mark.parametrize("context", [1, N_CTX + 1])
def test_a_row_longer_than_the_context_is_refused(model, context):
    with pytest.raises(ValueError, match=f"2 to {N_CTX} tokens"):
        Rows(model, TEXTS, context)


def test_position_counts_whole_texts_and_the_tokens_of_the_next(model):
    rows = Rows(model, TEXTS)
    next(iter(rows))
    assert rows.at[:2] == (1, 0)
    next(iter(rows))
    assert rows.at[:2] == (2, N_CTX - 1)
    assert isinstance(rows.at, Position)
