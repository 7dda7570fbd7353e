"""What an activation usually is, over the texts of the bench that asks."""

from made_bench import made_bench

from workbench.circuits.evidence.reference import usual_norm


def test_the_usual_norm_is_of_this_benchs_own_texts(model):
    one, other = made_bench(model, texts=["the cat sat"]), made_bench(model, texts=["a dog ran on the mat"])
    first, second = usual_norm(one), usual_norm(other)
    assert first != second, "what another bench on the same model read is not taken over"
    assert (usual_norm(one), usual_norm(other)) == (first, second)
    assert usual_norm(made_bench(model)) is None
