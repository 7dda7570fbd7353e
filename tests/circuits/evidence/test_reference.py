"""What an activation usually is, over the texts of the bench that asks."""

import torch
from made_bench import made_bench
from made_models import random_sae

from workbench.circuits.evidence.reference import read_mean_acts, usual_norm
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens


def test_the_usual_norm_is_of_this_benchs_own_texts(model):
    one, other = made_bench(model, texts=["the cat sat"]), made_bench(model, texts=["a dog ran on the mat"])
    first, second = usual_norm(one), usual_norm(other)
    assert first != second, "what another bench on the same model read is not taken over"
    assert (usual_norm(one), usual_norm(other)) == (first, second)
    assert usual_norm(made_bench(model)) is None


def test_means_of_a_model_of_16_bits_are_of_the_activations_that_it_has(folder_of):
    model, sae = load_model(folder_of("gpt2"), dtype=torch.bfloat16), random_sae()
    texts = ["the cat sat on the mat", "a dog ran", "the"]
    with torch.no_grad():
        caches = [model.run_with_cache(to_tokens(model, text))[1][sae.reads][0, 1:] for text in texts]
        expected = sae.encode(torch.cat(caches).float()).mean(0)
    torch.testing.assert_close(read_mean_acts(model, sae, texts), expected, rtol=2e-2, atol=2e-2)
