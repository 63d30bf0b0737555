"""The cost table: counts are the modules' own and the paper's sizes, LLaMA-7B takes no memory, mistakes are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, LlamaConfig

from configs.errors import ConfigError
from scripts.cost import latency as timing
from scripts.cost.command import main
from scripts.cost.counting import OTHER, Inputs, built, counted
from scripts.cost.hooks import batch_of, stand_in_of
from scripts.cost.latency import percentile_90, ready, timed
from scripts.cost.rows import TABLE_4, all_rows, composed, one_of_every_data_set, options
from tasks.audio_description.cost import read_length
from tasks.audio_description.known_sizes import sizes_of
from tasks.common.build import build_datamodule, build_module
from tasks.common.cost import vocabulary
from tests.tiers import slow

ROOT = Path(__file__).resolve().parents[2]
LLAMA = "task.llm.config={hidden_size: 32, intermediate_size: 24, num_hidden_layers: 3, num_attention_heads: 4}"
SMALL_LLAMA = "task.llm.pretrained=null task.llm.vocab_size=50 task.prefix_layers=2"
SMALL = {  # real data's configuration, a model that a CPU has room for
    "madv2": f"task.width=16 task.layers=2 task.heads=2 task.feedforward=24 task.bridge_layers=1 {SMALL_LLAMA} "
    "task.bridge_heads=2",
    "qvhighlights": "task.width=32 task.heads=4 data.max_clips=7",
    "imagenet1k": "data.image_size=48",
    "msrvtt": "data.source=features data.features.dim=12 data.frames=4 data.image_size=64 task.layers=1 task.width=24 "
    "task.heads=2 task.feedforward=20 task.tokenizer=null task.vocab_size=40",
    "shakespeare": "data.context=12 task.width=24 task.layers=2 task.heads=2",
}
SMALL = {name: text.split() for name, text in SMALL.items()}
SMALL["madv2"].append(LLAMA)
SMALL["imagenet1k"].append("task.model_options={embed_dim: 24, depth: 2, num_heads: 2}")
SMALL_MASK = ["mask.depth=20", "mask.hidden=null"]
LAYERS, WIDTH, TOKENS = 8, 768, 50  # the paper's encoder
LLM_LAYERS, LLM_WIDTH, LLM_FEEDFORWARD, VOCABULARY = 32, 4096, 11008, 32000  # LLaMA-7B
PROMPTS, PREFIX_LAYERS = 10, 30


PAPER = ["experiment=madv2_baseline", "task.bridge_layers=18"]


@pytest.fixture(autouse=True)
def _data_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(tmp_path: Path, *given: str) -> dict:
    """What the command writes as JSON."""
    main([*given, "--json", str(tmp_path / "cost.json"), "--out", str(tmp_path / "cost.md")])
    return json.loads((tmp_path / "cost.json").read_text())


def llama_flops(tokens: int) -> int:
    """FLOPs of LLaMA-7B with the gated prefix, product by product."""
    layer = 4 * LLM_WIDTH**2 + 3 * LLM_WIDTH * LLM_FEEDFORWARD
    plain = 2 * tokens * (LLM_LAYERS * layer + LLM_WIDTH * VOCABULARY) + LLM_LAYERS * 4 * tokens**2 * LLM_WIDTH
    prefix = 2 * PROMPTS * 2 * LLM_WIDTH**2 + 4 * tokens * PROMPTS * LLM_WIDTH  # keys and values; two products
    return plain + PREFIX_LAYERS * prefix


# -- the paper's configuration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "masks"), [slow("none", 0), slow("lcaam", 17_756_210), slow("multi_lcaam", 142_049_680)]
)
def test_the_papers_configuration_has_its_parameters_and_the_flops_of_literal_formulas(row, masks):
    cfg = composed(row, PAPER)
    inputs = Inputs(cfg)
    module = built(cfg, inputs, "meta")
    found = counted(cfg, module, inputs.batch(module, tokens=254))
    parts, spent = found["parameters"], found["flops_by_module"]
    assert (parts["masks"], parts["controls"], parts["language_model"]) == (masks, 0, 6_738_415_616)
    assert sum(parts.values()) == pytest.approx(6.930e9 + masks, rel=0.01)
    rotary = 2 * 254 * (128 // 2)  # positions x frequencies: a matrix product in older transformers
    assert spent["llm"] - llama_flops(254) in (0, rotary)
    plain = 2 * TOKENS * LAYERS * (4 * WIDTH**2 + 8 * WIDTH**2) + LAYERS * 4 * TOKENS**2 * WIDTH
    plain += 2 * 25 * WIDTH * (768 + 512)  # the two tracks' projections
    network, product = 2 * TOKENS * 30 * WIDTH**2, 2 * TOKENS**2 * WIDTH
    more = {"none": 0, "lcaam": network + LAYERS * product, "multi_lcaam": LAYERS * (network + product)}[row]
    assert spent["encoder"] == plain + more


@pytest.mark.slow
def test_the_script_prints_table_4_within_a_percent_and_a_gibibyte_and_a_half(tmp_path):
    command = [sys.executable, "-m", "scripts.cost", *PAPER, "--json", str(tmp_path / "cost.json")]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    printed = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0
    assert used.ru_maxrss < 1.5 * 2**20  # KiB; the weights alone are 26 GiB
    result = json.loads((tmp_path / "cost.json").read_text())
    rows = {row["row"]: row for row in result["families"][0]["rows"]}
    assert list(rows) == list(TABLE_4)
    for name, row in rows.items():
        wanted = {"none": 0, "lcaam": 17_756_210}.get(name, 142_049_680)
        assert row["total"] == pytest.approx(6.930e9 + wanted, rel=0.01)
        assert row["more_parameters"] == pytest.approx(wanted, rel=0.005)
        assert row["macs"] == row["flops"] / 2 and row["latency"] is None
    assert rows["extra_linear"]["more_flops"] == pytest.approx(rows["multi_lcaam"]["more_flops"], rel=0.005)
    assert "254 tokens (3.390 T) through the language model alone" in printed
    assert "| none | 6,928.1 | 6,930 | -0.03 % | 3.433 | 3.39 |" in printed
    assert printed.count("not measured") == len(rows)


def test_what_is_printed_is_written_with_command_versions_and_commit(tmp_path, capsys):
    result = run(tmp_path, "experiment=qvhighlights_baseline", *SMALL["qvhighlights"], "--rows", "lcaam")
    assert result["command"].startswith("python -m scripts.cost experiment=qvhighlights_baseline task.width=32")
    assert torch.__version__.startswith(result["versions"]["torch"]) and "commit" in result["git"]
    assert result["families"][0]["rows"][0]["more_flops"] is None  # there is no row to compare with
    printed = capsys.readouterr().out
    assert "\n| lcaam | " in printed
    assert (tmp_path / "cost.md").read_text() == f"    {result['command']}\n\n{printed[:-1]}"


@pytest.mark.slow
def test_a_linear_control_costs_the_same_with_and_without_residual_connections(tmp_path):
    names = ["none", "extra_linear", "extra_linear_no_residual"]
    (family,) = run(tmp_path, "experiment=qvhighlights_lcaam", *SMALL["qvhighlights"], "--rows", *names)["families"]
    rows = family["rows"]
    assert rows[1]["more_parameters"] == rows[2]["more_parameters"] > 0
    assert rows[1]["flops"] == rows[2]["flops"] > rows[0]["flops"]
    residual = [composed(row, ["experiment=qvhighlights_lcaam"]).mask.control_residual for row in names[1:]]
    assert residual == [True, False]


# -- counts are what a run would have ---------------------------------------------------------------------------------


FIRST = {(data, "multi_lcaam") for data in SMALL if data != "shakespeare"}
FIRST |= {("madv2", "extra_linear"), ("imagenet1k", "static_swinbert")}
EVERY = [(data, row) for data in SMALL for row in ("multi_lcaam", "extra_linear", "static_swinbert")]


@pytest.mark.parametrize(("data", "row"), [pair if pair in FIRST else slow(*pair) for pair in EVERY])
def test_counts_on_the_meta_device_are_those_of_a_model_that_computes(data, row):
    cfg = composed(row, [f"experiment={data}_baseline", *SMALL[data], *SMALL_MASK])
    inputs = Inputs(cfg)
    found = []
    for device in ("meta", "cpu"):
        module = built(cfg, inputs, device)
        found.append(counted(cfg, module, inputs.batch(module, tokens=19)))
        assert all(weight.device.type == device for weight in module.parameters())
    assert found[0] == found[1]
    assert sum(found[0]["flops_by_module"].values()) == found[0]["flops"] > 0
    assert found[0]["flops_by_module"].get(OTHER, 0) >= 0
    trained = module.vit if data == "imagenet1k" else module.model  # without the moving average
    assert sum(found[0]["parameters"].values()) == sum(weight.numel() for weight in trained.parameters())


@pytest.mark.parametrize(
    "data", [slow("madv2"), slow("qvhighlights"), slow("imagenet1k"), slow("shakespeare"), "msrvtt"]
)
def test_generated_data_give_the_very_counts_of_a_run(data, tmp_path):
    given = [f"experiment={data}_multi_lcaam", "scale=smoke", f"paths.data_dir={tmp_path}"]
    found = run(tmp_path, *given, "--rows", "multi_lcaam", "none")["families"][0]["rows"][1]
    cfg = composed("multi_lcaam", given)
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, datamodule).eval()
    datamodule.setup()
    assert found["row"] == "multi_lcaam"
    assert found["parameters"] == module.parts()
    assert found["flops"] == module.flops(next(iter(datamodule.test_dataloader())))
    check_stand_ins(cfg, datamodule)


def check_stand_ins(cfg, datamodule) -> None:
    """Facts and batch have the real data module's keys, and its types and sizes if these are configured."""
    theirs, ours = datamodule.facts(), stand_in_of(cfg).facts
    free = {"train_texts", "classes", "class_names", "train_counts", "characters"}  # contents of files
    if cfg.data.get("source") == "features":
        free.add("grid")
    assert ours.keys() == theirs.keys()
    assert {key: value for key, value in ours.items() if key not in free} == {
        key: value for key, value in theirs.items() if key not in free
    }
    real, stand_in = next(iter(datamodule.test_dataloader())), batch_of(stand_in_of(cfg), words=5)
    for name, value in stand_in.items():
        assert type(value) is type(real[name]), name
        if torch.is_tensor(value):
            assert (value.dtype, value.dim()) == (real[name].dtype, real[name].dim()), name
            assert value.shape[2:] == real[name].shape[2:] or name.endswith("keep"), name


@pytest.mark.parametrize("experiment", [name for name in options("experiment") if not name.endswith("lcaam")])
def test_every_experiment_has_what_a_profile_needs(experiment):  # those with a mask are rows of the others
    cfg = composed("lcaam", [f"experiment={experiment}"])
    module = built(cfg, Inputs(cfg), "meta")
    assert module.parts()["masks"] > 0
    assert batch_of(stand_in_of(cfg), words=1)


def test_every_data_set_is_in_all_once_and_without_a_mask():
    found = one_of_every_data_set()
    assert {name.split("_")[0] for name in found} == {name.split("_")[0] for name in options("experiment")}
    assert all(name.endswith("_baseline") for name in found)


def test_every_mask_of_the_configuration_is_a_row():
    assert set(options("mask")) == set(all_rows()) - {"extra_linear_no_residual"}


# -- text and language models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", "Describe the scene: ", "seven words are in this prompt here"])
def test_the_language_model_reads_exactly_the_tokens_asked_for(prompt):
    cfg = composed("none", ["experiment=madv2_baseline", *SMALL["madv2"], f"task.prompt='{prompt}'"])
    inputs = Inputs(cfg)
    module = built(cfg, inputs, "meta")
    for tokens in (10, 37):
        assert read_length(module, inputs.batch(module, tokens)) == tokens
    with pytest.raises(ConfigError, match="--tokens 1: the prompt and one word are"):
        inputs.batch(module, 1)


def test_a_vocabulary_has_its_size_and_a_token_a_word():
    tokenizer = vocabulary(9, ["<s>", "<unk>"], "<unk>")
    assert tokenizer.get_vocab_size() == 9
    assert tokenizer.encode("w0 w6 w9 other").ids == [2, 8, 1, 1]


def test_known_language_models_have_their_published_parameters():
    published = {"huggyllama/llama-7b": 6_738_415_616, "huggyllama/llama-13b": 13_015_864_320}
    for name, parameters in published.items():
        cfg = composed("none", ["experiment=madv2_baseline", f"task.llm.pretrained={name}"])
        assert built(cfg, Inputs(cfg), "meta").parts()["language_model"] == parameters


def test_a_folders_language_model_is_counted_from_its_config_alone(tmp_path):
    LlamaConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2).save_pretrained(
        tmp_path / "llama"
    )
    sizes = sizes_of(str(tmp_path / "llama"))
    assert (sizes["hidden_size"], sizes["num_key_value_heads"], sizes["vocab_size"]) == (24, 2, 32000)
    given = [f"task.llm.pretrained={tmp_path}/llama", "task.prefix_layers=2"]
    cfg = composed("none", ["experiment=madv2_baseline", *given])
    assert built(cfg, Inputs(cfg), "meta").model.llm.config.hidden_size == 24
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is a 'bert' model, not a LLaMA"):
        sizes_of(str(tmp_path / "bert"))


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "expected"), [([5.0], 5.0), ([1.0, 2.0], 2.0), ([*range(10, 0, -1)], 9)], ids=str)
def test_the_90th_percentile_is_not_exceeded_by_nine_tenths(values, expected):
    assert percentile_90(values) == expected


@pytest.mark.parametrize(("threads", "ratio"), [(1, 5.0), (2, 3.0)])
def test_times_are_of_the_calls_after_the_warm_up_in_turns(monkeypatch, threads, ratio):
    clock, order = {"wall": 0.0, "cpu": 0.0}, []

    def spend(name, walls, cpu):
        order.append(name)
        clock["wall"] += walls.pop(0)
        clock["cpu"] += cpu

    monkeypatch.setattr(timing, "now", lambda device: (clock["wall"], clock["cpu"]))
    monkeypatch.setattr(timing, "peak", lambda call, device: 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ours, theirs = [100.0, 6.0, 2.0, 9.0], [100.0, 1.0, 2.0, 3.0]
    found = timed(lambda: spend("ours", ours, 5.0), "cpu", 3, 1, beside=lambda: spend("theirs", theirs, 1.0))
    assert order == ["theirs", "ours"] * 4
    assert found == {"median": 6.0, "p90": 9.0, "repeats": 3, "of_beside": ratio, "peak_bytes": 7}


@pytest.mark.slow
def test_what_fits_is_measured_and_of_what_does_not_only_the_part_that_does(tmp_path, capsys):
    given = [*SMALL["madv2"], "--rows", "lcaam", "--latency", "--repeats", "1", "--tokens", "9"]
    given.append("experiment=madv2_baseline")
    (row,) = run(tmp_path, *given)["families"][0]["rows"]
    assert row["latency"]["calls"].keys() == {"forward", "encoder", "prefill", "token"}
    for call in row["latency"]["calls"].values():
        assert call["p90"] >= call["median"] > 0 and call["peak_bytes"] > 0
    assert row["latency"]["weight_bytes"] == 4 * row["total"]
    capsys.readouterr()
    (row,) = run(tmp_path, *given, "--memory", "0.00001")["families"][0]["rows"]
    assert row["latency"]["calls"].keys() == {"encoder"} and row["latency"]["weight_bytes"] is None
    assert "Not measured as a whole: lcaam (weights of 0.0 GiB are above the limit" in capsys.readouterr().out


def test_a_model_that_does_not_fit_and_has_no_part_is_not_built():
    cfg = composed("none", ["experiment=imagenet1k_baseline"])
    found = ready(cfg, Inputs(cfg), 86_567_656, tokens=1, device="cpu", limit=2**20)
    assert found.calls == {} and "0.3 GiB are above the limit of 0.0 GiB" in found.not_measured


def test_a_tokens_cache_grows_as_in_decoding():
    cfg = composed("none", ["experiment=madv2_baseline", *SMALL["madv2"]])
    calls = ready(cfg, Inputs(cfg), 1, tokens=9, device="cpu", limit=2**30).calls
    lengths = []
    with torch.no_grad():
        calls["prefill"]()
        kept = next(cell.cell_contents for cell in calls["token"].__closure__ if isinstance(cell.cell_contents, dict))
        for _ in range(3):
            calls["token"]()
            lengths.append(kept["past"].get_seq_length())
    assert lengths == [10, 11, 12]
