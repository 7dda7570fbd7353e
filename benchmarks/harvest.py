"""Harvesting activations: workbench's head and stream against the tutorials' run_with_cache, as a share of the machine's matrix rate.

    python benchmarks/harvest.py [--tokens 128] [--layer 6] [--threads 1] [--rounds 5]

GPT-2 small with random weights, in float32 and bfloat16. Counted are the matrix products of the blocks before the hook point, for the
texts' own tokens: attention itself, start tokens and padding count as nothing gained. The stream is measured from strings to shuffled
batches, on short and long documents, a document a row and packed.
"""

import random
from itertools import islice
from typing import Any

import torch
from setting import arguments, product_of, take_turns
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.activations.stream import ActivationStream
from workbench.model.head import Head
from workbench.model.model import load_model

N_TOKENS = 2048  # in a batch of rows
N_STREAMED = 2**14
LENGTHS = {"short documents": 24, "long documents": 700}  # mean tokens


def gpt2(dtype: torch.dtype, device: str = "cpu") -> Any:
    """The same random weights in every dtype; words w0, w1, … are one token each."""
    torch.manual_seed(0)
    hf_model = GPT2LMHeadModel(GPT2Config()).eval()
    vocabulary = {f"w{n}": n for n in range(hf_model.config.vocab_size - 1)} | {"<start>": hf_model.config.vocab_size - 1}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<start>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<start>", eos_token="<start>", unk_token="<start>")
    return load_model(hf_model, device=device, dtype=dtype, tokenizer=wrapped)


def documents(mean_length: int, n_streamed: int = N_STREAMED) -> list[str]:
    """Documents of exponentially distributed length, n_streamed tokens and a little in all."""
    rng, texts, n_tokens = random.Random(0), [], 0
    while n_tokens < 1.3 * n_streamed:
        length = 1 + int(rng.expovariate(1 / mean_length))
        texts.append(" ".join(f"w{rng.randrange(50_000)}" for _ in range(length)))
        n_tokens += length
    return texts


def through(model: Any, tokens: torch.Tensor, hook_name: str) -> torch.Tensor:
    """The tutorials' way."""
    stop = int(hook_name.split(".")[1]) + 1
    return model.run_with_cache(tokens, names_filter=hook_name, stop_at_layer=stop)[1][hook_name]


def streamed(model: Any, texts: list[str], hook_name: str, context: int | None, n_streamed: int = N_STREAMED) -> int:
    """Tokens that came out of a stream."""
    stream = ActivationStream(model, texts, hook_name, batch=1024, buffer=n_streamed, context=context)
    return sum(map(len, islice(stream, n_streamed // 1024)))


def main() -> None:
    options = arguments(__doc__ or "", n_rounds=5, n_tokens=128)
    hook_name = f"blocks.{options.layer}.hook_resid_pre"
    tokens = torch.randint(50_000, (N_TOKENS // options.tokens, options.tokens))
    print(f"GPT-2 small, {hook_name}, rows of {options.tokens} tokens, {options.threads} thread(s)\n")
    print(f"{'way':<46}{'tokens/s':>10}{'of the products, own dtype':>28}{'of bfloat16 products':>22}")
    rates, found = {}, {}
    for dtype in (torch.bfloat16, torch.float32):
        model = gpt2(dtype)
        head, texts = Head(model, [hook_name]), {name: documents(length) for name, length in LENGTHS.items()}
        product, operations = product_of(model.cfg.d_model, dtype)

        def bridge(model: Any = model) -> torch.Tensor:
            return through(model, tokens, hook_name)

        with torch.no_grad():
            found[dtype] = head(tokens)[hook_name], bridge()
            ways = {
                "product": lambda product=product: [product() for _ in range(20)],
                "run_with_cache": bridge,
                "Head": lambda head=head: head(tokens),
            }
            streams = {
                f"stream, {name}, {'a document a row' if context is None else f'packed in {context}'}": (texts[name], context)
                for name in LENGTHS
                for context in (None, options.tokens)
            }
            ways |= {name: lambda model=model, each=each: streamed(model, each[0], hook_name, each[1]) for name, each in streams.items()}
            seconds = take_turns(ways, options.rounds)
        rates[dtype] = 20 * operations / seconds.pop("product")
        for name, time in seconds.items():
            n_tokens = N_STREAMED if name in streams else tokens.numel()
            rate = n_tokens * options.layer * 24 * model.cfg.d_model**2 / time
            shares = f"{rate / rates[dtype]:>28.2f}{rate / rates[torch.bfloat16]:>22.2f}"
            print(f"{f'{name}, {str(dtype)[6:]}':<46}{n_tokens / time:>10,.0f}{shares}")
        print(f"(Head's way: {head.way} {head.why_not}; products run at {rates[dtype] / 1e9:.0f} GFLOP/s)\n")
    report_differences(found)


def report_differences(found: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]]) -> None:
    exact = found[torch.float32][1].double()
    for dtype, both in found.items():
        ours, bridge = (x.double() - exact for x in both)
        norm = exact.norm(dim=-1)
        apart = ((ours - bridge).norm(dim=-1) / norm).max()
        rounding = [((x.norm(dim=-1)) / norm).mean() for x in (ours, bridge)]
        print(
            f"{str(dtype)[6:]}: ours and the bridge's differ by at most {apart:.1e} of their norm; "
            f"to float32 by {rounding[0]:.1e} and {rounding[1]:.1e}"
        )


if __name__ == "__main__":
    main()
