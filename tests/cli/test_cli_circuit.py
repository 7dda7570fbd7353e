"""workbench circuit, from a folder of SAEs, and what it says where there is one only."""

import json

import pytest
from made_circuit import PROMPT, made_saes
from made_transcoders import made_set

from workbench.circuits.graph.circuit import Circuit
from workbench.cli import main


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    for number, sae in enumerate(made_saes().values()):
        sae.save(folder / str(number))
    return folder


def test_a_circuit_is_said_in_words_and_written(folder_of, layers, tmp_path, capsys):
    options = ["--model", str(folder_of("gpt2")), "--layers", str(layers), "--answer", " cat", "--baseline", " dog", "--features", "8"]
    written = ["--json", str(tmp_path / "graph.json"), "--html", str(tmp_path / "graph.html")]
    assert main(["circuit", PROMPT, *options, *written]) == 0
    said = capsys.readouterr().out
    assert "Which features make ' cat' rather than ' dog'?" in said and "  from" in said and "Written:" in said
    circuit = Circuit.load(tmp_path / "graph.json")
    assert (circuit.nodes["kind"] == "feature").sum() == 8 and json.loads((tmp_path / "graph.json").read_text())["links"]
    assert "comes from" in (tmp_path / "graph.html").read_text()


def test_one_sae_or_none_is_no_circuit(folder_of, layers, tmp_path, capsys):
    next(iter(made_saes().values())).save(tmp_path / "one")
    model = ["--model", str(folder_of("gpt2")), "--answer", " cat"]
    for more, says in (
        ([], "give --layers"),
        (["--layers", str(tmp_path)], "holds 1 SAE's folder"),
        (["--layers", str(layers / "no")], "is no folder"),
    ):
        assert main(["circuit", PROMPT, *model, *more]) == 2
        assert says in capsys.readouterr().err


def test_a_circuit_of_transcoders_from_their_folders(folder_of, tmp_path, capsys):
    for layer, each in made_set("mlp.hook_in", "mlp.hook_out", has_skip=False).items():
        each.save(tmp_path / "set" / f"layer_{layer}")
    options = ["--model", str(folder_of("gpt2")), "--transcoders", str(tmp_path / "set"), "--features", "8"]
    assert main(["circuit", PROMPT, *options, "--json", str(tmp_path / "graph.json"), "--html", str(tmp_path / "graph.html")]) == 0
    out = capsys.readouterr().out
    assert "Direct effects; replacement" in out and "the mean logit" in out
    assert (Circuit.load(tmp_path / "graph.json").nodes["kind"] == "feature").sum() <= 8
    assert main(["circuit", PROMPT, *options, "--answer", " cat", "--edges", "attributed"]) == 2
    assert "leave --layers and --edges out" in capsys.readouterr().err
    assert main(["circuit", PROMPT, *options, "--baseline", " cat"]) == 2
    assert "which answer?" in capsys.readouterr().err
