"""Tiny tokenizers of every kind that a model's files may bring, as Hugging Face tokenizer objects."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def byte_tokenizer(special: tuple[str, ...] = (), prefix: str = "", first: int = 0, **named: str) -> PreTrainedTokenizerFast:
    """A token a byte, and special tokens numbered from `first`, by default before the bytes. prefix: what it puts in front of a text by
    itself, "<s>"."""
    vocabulary = {text: first + i for i, text in enumerate(special)}
    vocabulary |= {byte: i + (0 if first else len(special)) for i, byte in enumerate(ALPHABET)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.add_special_tokens(list(special))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if prefix:
        pieces = [(piece, vocabulary[piece]) for piece in prefix.split()]
        made.post_processor = processors.TemplateProcessing(single=f"{prefix} $A", special_tokens=pieces)
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


def pieces_tokenizer() -> PreTrainedTokenizerFast:
    """As SentencePiece has it: a space is ▁, a text begins with one, `▁in` and `in` are two tokens, bytes stand for what is not there."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁the", -1.0), ("▁in", -1.5), ("in", -1.6), ("▁France", -1.0), ("▁", -3.0)]
    pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    made = Tokenizer(models.Unigram([*pieces, *((letter, -5.0) for letter in LETTERS)], unk_id=0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def words_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece: `cat` begins a word, `##s` and `##cat` go on with one."""
    words = ["[UNK]", "[CLS]", "[SEP]", "cat", "##s", "##cat", "the", "."]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
