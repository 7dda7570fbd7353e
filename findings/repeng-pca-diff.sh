#!/bin/sh
# repeng 0.4.0: the default way to make a control vector, "pca_diff", takes out the very difference that it should find.
#
# ControlVector.train(model, tokenizer, dataset) takes the hidden states of each pair, positive − negative, and fits scikit-learn's PCA on
# these differences. PCA subtracts their mean first: what all pairs share is gone, and the first component is where pairs vary most around
# it. The cleaner the contrast, the worse: below, over 99 % of the differences' squared length is their mean, and the vector is nearly at
# right angles to it. The sign is then set so that positives project higher, so nothing looks wrong. Pass method="pca_center".
#
# Output when last run (November 2026, torch 2.13, transformers 4.57.3):
#   pairs that differ by their mean: more than 99 % of the squared length
#   pca_diff, the default: cosine with the mean difference below 0.4
#   pca_center: cosine with the mean difference above 0.95
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "transformers==4.57.3" "huggingface-hub==0.36.0" "scikit-learn==1.5.2" "numpy==1.26.4" "gguf==0.17.1"
"$folder/venv/bin/pip" install -q --no-deps "repeng==0.4.0"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
from repeng import ControlVector, DatasetEntry
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

torch.manual_seed(0)
names = [f"name{i}" for i in range(60)]
vocabulary = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<s>", "good", "bad", *names])}, "<s>"))
vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<s>", unk_token="<s>")
model = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=32, n_head=4, vocab_size=63, n_positions=16, initializer_range=0.1)).eval()
pairs = [DatasetEntry(f"{name} is good", f"{name} is bad") for name in names]


def hidden(texts):
    with torch.no_grad():
        return model(**tokenizer(texts, return_tensors="pt"), output_hidden_states=True).hidden_states[2][:, -1].numpy()


difference = hidden([pair.positive for pair in pairs]) - hidden([pair.negative for pair in pairs])
mean = difference.mean(0)
share = (mean @ mean) / (difference**2).sum(1).mean()
print(f"pairs that differ by their mean: {share:.2%} of the squared length")
cosine = {}
for said, given in (("pca_diff, the default", {}), ("pca_center", {"method": "pca_center"})):
    direction = ControlVector.train(model, tokenizer, pairs, hidden_layers=[1], **given).directions[1]
    cosine[said] = float(direction @ mean / np.linalg.norm(direction) / np.linalg.norm(mean))
    print(f"{said}: cosine with the mean difference {cosine[said]:.2f}")
assert share > 0.98, "these pairs do not differ by one vector: this says nothing of repeng"
assert cosine["pca_center"] > 0.95, "pca_center does not find the difference"
assert cosine["pca_diff, the default"] < 0.4, "repeng has changed: the default finds the difference"
PYTHON
