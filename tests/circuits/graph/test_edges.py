"""A circuit's edges equal their definition: clamp, run the whole model, encode. First-order edges equal autograd."""

import pytest
import torch
from made_circuit import PLACES, PROMPT, made_circuit_bench
from made_models import FAMILIES

from workbench.circuits.graph.attributed import attribute_edges
from workbench.circuits.graph.edges import measure_edges
from workbench.circuits.graph.places import ERROR, Place, read_places, read_tokens
from workbench.circuits.metrics import logit_diff, resolve
from workbench.model.hooks import hooked
from workbench.model.tokens import is_start_token, to_tokens
from workbench.replay.between import STREAM, Between
from workbench.replay.jacobian import Jacobian
from workbench.replay.replay import WAYS


def read(model, way: str = "prefix", places=PLACES, **options) -> tuple[Between, list[Place]]:
    bench = made_circuit_bench(model, places, **options)
    tokens, metric = to_tokens(model, PROMPT), resolve(model, logit_diff(5, 7))
    between = Between(model, [STREAM, *places], tokens, way=way)
    found = [read_tokens(model, tokens, metric, between.clean_at[STREAM])]
    return between, [*found, *read_places(model, bench.layers, tokens, metric, between.clean_at)]


def reached(model, tokens, first: Place, then: Place, source: int) -> torch.Tensor:
    """The slow method: the whole model, hooked, with one source taken away; the activation at the next place (pos, d_in)."""
    found: list[torch.Tensor] = []

    def without(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[0, first.pos[source]] -= first.contribution[source]
        return x

    with torch.no_grad(), hooked(model, first.hook_name, without), hooked(model, then.hook_name, lambda x: found.append(x[0].clone())):
        model(tokens)
    return found[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_measured_edges_equal_clamping_running_and_encoding(model_of, family, way):
    model = model_of(family)
    between, places = read(model, way)
    assert between.way == way, between.why_not
    for first, then in zip(places, places[1:], strict=False):
        targets = then.keep(then.is_feature.nonzero()[:, 0])
        assert (first.feature >= 0).any() and (first.sae is None or (first.feature == ERROR).any()) and len(targets.pos)
        edges = measure_edges(between, first, then)
        for source in torch.linspace(0, len(first.pos) - 1, 7).long().tolist():
            x = reached(model, between.tokens, first, then, source)
            change = targets.activation - then.sae.encode(x)[targets.pos, targets.feature]
            assert (edges.change[source] - change).abs().max() <= 1e-5 * max(1, targets.activation.max())


@pytest.mark.parametrize(
    "architecture", [dict(architecture="topk", k=4), dict(architecture="batchtopk", k=4), dict(architecture="jumprelu")]
)
@pytest.mark.parametrize("points", [("hook_resid_mid", "hook_resid_post"), ("hook_mlp_out", "hook_resid_pre")])
def test_every_kind_of_sae_and_places_inside_blocks_give_the_same(model, architecture, points):
    places = ("blocks.1." + points[0], ("blocks.1." if points[1].endswith("post") else "blocks.3.") + points[1])
    between, (_, first, then) = read(model, places=places, **architecture)
    targets = then.keep(then.is_feature.nonzero()[:, 0])
    edges, estimate = measure_edges(between, first, then), attribute_edges(between, first, then)
    assert estimate.shape == edges.change.shape
    for source in (0, len(first.pos) // 2, len(first.pos) - 1):
        x = reached(model, between.tokens, first, then, source)
        change = targets.activation - then.sae.encode(x)[targets.pos, targets.feature]
        assert (edges.change[source] - change).abs().max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_rests_of_a_source_sum_to_the_first_order_part_of_its_effect(model_of, family):
    model = model_of(family)
    between, places = read(model)
    for first, then in zip(places, places[1:], strict=False):
        targets = then.keep(then.is_feature.nonzero()[:, 0])
        edges = measure_edges(between, first, then)
        total = edges.change @ targets.slopes() + edges.rest.sum(1)
        for source in (0, len(first.pos) - 1):
            moved = then.clean - reached(model, between.tokens, first, then, source)
            expected = torch.einsum("pd,kpd->k", moved, then.gradients)
            torch.testing.assert_close(total[source], expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_three_logits_equal_autograd_one_at_a_time(model_of, family):
    model = model_of(family)
    between, places = read(model)
    columns = [lambda logits: logits[5], lambda logits: logits[7], lambda logits: logits.mean()]
    for place in places[1:]:
        for column, gradient in zip(columns, place.gradients, strict=True):
            leaves: list[torch.Tensor] = []

            def leaf(x, leaves=leaves):
                leaves.append(x.detach().clone().requires_grad_())
                return leaves[-1]

            with hooked(model, place.hook_name, leaf):
                value = column(model(between.tokens)[0, -1])
            torch.testing.assert_close(torch.autograd.grad(value, leaves[0])[0][0], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_attributed_edges_equal_autograd_one_target_at_a_time_and_the_cut_takes_the_same(model_of, family):
    model = model_of(family)
    between, (_, first, then, _) = read(model)
    targets = then.keep(then.is_feature.nonzero()[:, 0])
    edges, jacobian = attribute_edges(between, first, then), Jacobian(between, first.hook_name, then.hook_name)
    whole = Jacobian(between, first.hook_name, then.hook_name, way="whole")
    reads = then.sae.W_enc.T[targets.feature]
    for made in (jacobian, whole):
        torch.testing.assert_close(made.products(first.pos, first.contribution, targets.pos, reads), edges, atol=1e-4, rtol=1e-3)
    assert jacobian.way == "cut", jacobian.why_not
    for target in (0, len(targets.pos) // 2, len(targets.pos) - 1):
        leaves, found = [], []

        def leaf(x, leaves=leaves):
            leaves.append(x.detach().clone().requires_grad_())
            return leaves[-1]

        with hooked(model, first.hook_name, leaf), hooked(model, then.hook_name, lambda x, found=found: found.append(x.clone())):
            model(between.tokens)
        pre_act = then.sae.pre_acts(found[0][0])[targets.pos[target], targets.feature[target]]
        gradient = torch.autograd.grad(pre_act, leaves[0])[0][0]
        expected = (gradient[first.pos] * first.contribution).sum(-1)
        torch.testing.assert_close(edges[:, target], expected, atol=1e-4, rtol=1e-3)


def test_the_start_token_is_no_node(model):
    between, places = read(model)
    is_start = is_start_token(model, between.tokens)[0]
    assert is_start.any() and not any(is_start[place.pos].any() for place in places)
