"""A model and an SAE as a user has them, in two folders: random, tiny, with a tokenizer that knows the Kobe prompt's words."""

import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

PROMPT = "Fact: The capital of the state where Kobe Bryant played basketball is"
HOOK = "blocks.1.hook_resid_pre"


def made_folders(folder: Path) -> tuple[Path, Path]:
    """(the model's folder, the SAE's folder)"""
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([f"{PROMPT} Sacramento Albany"] * 20, trainer)
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "model")
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder / "model")

    sae = SAE(SAEConfig(d_in=16, d_sae=64, hook_name=HOOK))
    for weight in sae.parameters():
        torch.nn.init.normal_(weight)
    sae.requires_grad_(False).fold_decoder_norms().save(folder / "sae")
    return folder / "model", folder / "sae"


def tuned_from(model: Path, folder: Path) -> str:
    """Another folder, of the same model with a weight of its first block changed."""
    shutil.copytree(model, folder)
    tuned = GPT2LMHeadModel.from_pretrained(folder)
    tuned.transformer.h[0].mlp.c_proj.bias.data[::3] += 0.5
    tuned.save_pretrained(folder)
    return str(folder)
