"""Nested widths (Matryoshka BatchTopK): the step is its loss written out in float64, and each width does by itself."""

from copy import deepcopy

import pytest
import torch
from made_models import D_MODEL
from made_step import L1, close, made_transcoder
from made_step import made as made_sae
from made_stream import D_SAE, Planted, PlantedPair

from workbench.sae.architectures import batch_topk
from workbench.sae.config import SAEConfig, SAEError
from workbench.sae.dictionary import WIDTHS
from workbench.sae.kernels.objective import plain_step
from workbench.sae.kernels.step import sparse_step
from workbench.sae.sae import SAE
from workbench.sae.training.train import TrainConfig, train
from workbench.sae.transcoder import Transcoder

WIDTHS_MADE = [40, 41, 200, 320]


@pytest.mark.parametrize("step", [plain_step, sparse_step], ids=lambda step: step.__name__)
@pytest.mark.parametrize("kind", ["sae", "transcoder with a skip"])
def test_the_nested_loss_and_its_gradients_are_those_written_out_in_float64(kind: str, step):
    if kind == "sae":
        (dictionary, x), y = made_sae("batchtopk"), None
    else:
        dictionary, x, y = made_transcoder("batchtopk", has_skip=True)
    dictionary.cfg.metadata[WIDTHS] = WIDTHS_MADE
    weights = {name: weight.detach().double().requires_grad_() for name, weight in dictionary.named_parameters()}
    goal, rest = (x if y is None else y).double(), (x.double() @ weights["W_skip"] if "W_skip" in weights else 0)
    acts = batch_topk(x.double() @ weights["W_enc"] + weights["b_enc"], dictionary.cfg.k)
    errors = [goal - rest - acts[:, :n] @ weights["W_dec"][:n] - weights["b_dec"] for n in WIDTHS_MADE]
    loss = sum(error.square().sum(1).mean() for error in errors) / len(errors)
    loss.backward()
    found = step(dictionary, x, L1, y)
    assert close(found.loss, loss) and close(found.error, errors[-1]) and close(found.squared_error, errors[-1].square().sum(1).mean())
    for name, weight in dictionary.named_parameters():
        assert close(weight.grad, weights[name].grad), name


NESTED = dict(d_sae=D_SAE, n_steps=500, lr=1e-2, architecture="batchtopk", k=2)


def test_the_first_features_do_better_by_themselves_than_those_that_were_not_trained_to():
    stream = Planted()
    x = stream.sample(9)

    def fvu(sae: SAE) -> float:
        return ((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum()).item()

    plain = train(Planted(), TrainConfig(**NESTED), progress=False)
    nested = train(Planted(), TrainConfig(**NESTED, widths=(6, 12)), progress=False)
    plain.cfg.metadata[WIDTHS] = [6, 12, D_SAE]
    assert nested.widths == (6, 12, D_SAE) and fvu(nested) < 0.25
    at = {n: fvu(nested.at_width(n)) for n in nested.widths}
    assert at[6] > at[12] > at[D_SAE] == fvu(nested)
    assert at[6] < fvu(plain.at_width(6)) and at[12] < fvu(plain.at_width(12))


def test_a_width_is_the_first_features_by_hand_and_survives_a_file(tmp_path):
    tc = train(
        PlantedPair(), TrainConfig(**NESTED | dict(n_steps=20), widths=(6, 12), has_skip=True), progress=False, predict=PlantedPair.written
    )
    x, n = PlantedPair().sample(3)[PlantedPair.read], 12
    acts = (x @ tc.W_enc + tc.b_enc)[:, :n]
    acts = acts * (acts > tc.threshold[:n])
    torch.testing.assert_close(tc.at_width(n)(x), acts @ tc.W_dec[:n] + tc.b_dec + x @ tc.W_skip)
    tc.save(tmp_path)
    again = Transcoder.load(tmp_path)
    assert again.cfg == tc.cfg and "nested: also the first 6, 12" in repr(again)
    assert again.at_width(n).widths == (6, 12) and again.at_width(n).cfg.d_sae == n
    assert "fvu" in again.at_width(D_SAE).cfg.metadata and not {"fvu", "l0", "dead"} & again.at_width(n).cfg.metadata.keys()  # of all
    assert deepcopy(again).bfloat16().at_width(n).W_dec.dtype == torch.bfloat16
    assert torch.equal(again.at_width(n).at_width(6)(x), tc.at_width(6)(x)) and torch.equal(again.at_width(D_SAE)(x), tc(x))
    with pytest.raises(ValueError, match=r"at_width\(7\): the first 7 features were not trained to stand alone; those at 6, 12, 24 were"):
        again.at_width(7)


def test_an_sae_of_one_width_says_nothing_of_others():
    sae = SAE(SAEConfig(D_MODEL, 8, "blocks.1.hook_resid_pre"))
    assert sae.widths == (8,) and "nested" not in repr(sae) and sae.at_width(8).cfg == sae.cfg


@pytest.mark.parametrize("widths", [[4, 9], [8, 4], "8", [], [0, 8], [4, 4, 8], [2.5, 8]])
def test_metadata_that_contradict_the_sae_are_refused(widths):
    sae = SAE(SAEConfig(D_MODEL, 8, "blocks.1.hook_resid_pre", metadata={WIDTHS: widths}))
    with pytest.raises(SAEError, match="expected a list of growing widths, the last one 8"):
        sae.at_width(4)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (dict(architecture="topk", widths=(4,)), "are of nested batchtopk dictionaries, this one is topk"),
        (dict(architecture="batchtopk", widths=(4, 4)), "expected growing numbers above 0 and below d_sae, 8"),
        (dict(architecture="batchtopk", widths=(8,)), "expected growing numbers above 0 and below d_sae, 8"),
    ],
)
def test_widths_that_make_no_sense_are_refused(wrong: dict, words: str):
    with pytest.raises(ValueError, match=words):
        TrainConfig(d_sae=8, k=2, **wrong)
