"""The frozen language model in 8 or 4 bits: what is quantised, what it computes, which checkpoints fit it."""

import logging
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig

from configs.errors import ConfigError
from scripts import memory
from tasks.audio_description import quantization
from tasks.audio_description.base_model import describe_base
from tasks.audio_description.language_model import pretrained
from tasks.audio_description.module import AudioDescription
from tasks.audio_description.prefix import PrefixLlama, Prompts, gated_prefix
from tasks.audio_description.sharding import shard
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tests.tasks.audio_description.families import FAMILIES
from tests.tasks.audio_description.families import folder_of as folder_of_family
from tests.tasks.audio_description.test_frozen import changed_weight, folder_of, frozen, trained, weights
from tests.tasks.audio_description.test_module import scenes

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
KINDS = ("int8", "nf4")
IDS, KEEP = torch.tensor([[1, 5, 9, 4], [1, 8, 3, 2]]), torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])


@pytest.fixture
def bnb():
    pytest.importorskip("accelerate", reason="the extra `quantization` is not installed", exc_type=ImportError)
    return pytest.importorskip("bitsandbytes", reason="the extra `quantization` is not installed", exc_type=ImportError)


needs_bnb = pytest.mark.usefixtures("bnb")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("base"), **SIZES)


def quantised(base, kind, llm=None, **changes):
    return frozen(base, {"quantization": kind, **(llm or {})}, **changes)


def unpacked(bnb, layer):
    """The weights that a quantised layer stands for, (out, in)."""
    if isinstance(layer, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    scales = layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB
    return layer.weight.data.float() * scales[:, None] / 127


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_projections_are_quantised_and_nothing_else(bnb, base, kind):
    module, plain = quantised(base, kind), frozen(base)
    layer = {"int8": bnb.nn.Linear8bitLt, "nf4": bnb.nn.Linear4bit}[kind]
    for name, there in module.model.llm.named_modules():
        assert isinstance(there, layer) == name.endswith("_proj"), name
    assert type(module.model.llm.lm_head) is nn.Linear
    assert module.parts() == plain.parts()
    assert quantization.quantization_of(module.model.llm) == kind
    assert quantization.quantization_of(plain.model.llm) == "none"
    if kind == "nf4":
        state = module.model.llm.model.layers[0].mlp.up_proj.weight.quant_state
        assert state.quant_type == "nf4" and state.nested and state.blocksize == 64
        assert module.model.llm.model.layers[0].mlp.up_proj.compute_dtype == torch.bfloat16


def test_int8_weights_are_each_rows_255_levels(bnb, base):
    module, plain = quantised(base, "int8"), frozen(base)
    for name, layer in plain.model.llm.named_modules():
        if name.endswith("_proj"):
            weight = layer.weight.half().float()
            step = weight.abs().amax(1, keepdim=True) / 127
            found = unpacked(bnb, module.model.llm.get_submodule(name))
            torch.testing.assert_close(found, (weight / step).round() * step, rtol=0, atol=float(1.01 * step.max()))
            assert ((found - weight).abs() <= 0.51 * step).all()


@pytest.mark.parametrize("make", [Prompts, gated_prefix])
@pytest.mark.parametrize("kind", KINDS)
def test_prefix_and_words_are_those_of_the_unpacked_weights(bnb, base, kind, make):
    """In training; in evaluation int8 rounds its inputs as well."""
    llm = quantised(base, kind).model.llm
    plain = PrefixLlama(LlamaConfig(**frozen(base).model.llm.config.to_dict())).train().requires_grad_(False)
    state = {name: value.float() for name, value in llm.state_dict().items() if "_proj." not in name}
    projections = {name: module for name, module in llm.named_modules() if name.endswith("_proj")}
    plain.load_state_dict(state | {f"{name}.weight": unpacked(bnb, module) for name, module in projections.items()})
    found = []
    for model in (llm, plain):
        torch.manual_seed(1)
        prompts, gates = torch.randn(2, 2, 5, 64, requires_grad=True), torch.randn(2, 4, requires_grad=True)
        read = {"prefix": make(model, prompts, gates), "prefix_keep": None}
        logits = model(input_ids=IDS, attention_mask=KEEP, **read).logits
        logits[:, 1:].square().sum().backward()
        found.append((logits[:, 1:], prompts.grad, gates.grad))
    for ours, expected in zip(*found, strict=True):
        error = (ours - expected).norm() / expected.norm()
        assert error < (0.02 if kind == "nf4" else 1e-3), "nf4 multiplies in bfloat16"
    without = plain(input_ids=IDS, attention_mask=KEEP).logits[:, 1:]
    assert (without - found[1][0]).norm() / without.norm() > 0.1, "the prefix counts"


@needs_bnb
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_the_adapters_alone_and_only_they_are_saved(base, kind, dtype, checkpointing, tmp_path):
    module = quantised(base, kind, {"dtype": dtype, "gradient_checkpointing": checkpointing})
    before = weights(module)
    trainer = trained(module, tmp_path, 2)
    after = module.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith("model.llm.")}
    trainer.save_checkpoint(tmp_path / "adapters.ckpt")
    checkpoint = torch.load(tmp_path / "adapters.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == moved
    again = load_module(AudioDescription, tmp_path / "adapters.ckpt")
    assert again.eval().describe(scenes()) == module.eval().describe(scenes())
    assert module.flops(scenes()) is None


@needs_bnb
@pytest.mark.parametrize("trained_on, loaded_on", [("none", "nf4"), ("none", "int8"), ("nf4", "none"), ("int8", "nf4")])
def test_adapters_load_onto_the_same_base_in_any_precision_with_a_warning(
    base, trained_on, loaded_on, tmp_path, caplog
):
    module = quantised(base, trained_on)
    trained(module, tmp_path, 1).save_checkpoint(tmp_path / "adapters.ckpt")

    def load(folder, kind):
        llm = {"pretrained": str(folder), "quantization": kind}
        return load_module(AudioDescription, tmp_path / "adapters.ckpt", llm=llm)

    caplog.set_level(logging.WARNING)
    caplog.clear()
    load(base, trained_on)
    assert "adapters" not in caplog.text
    again = load(shutil.copytree(base, tmp_path / "moved"), loaded_on)
    assert torch.equal(again.model.gates, module.model.gates)
    assert f"trained with task.llm.quantization={trained_on} and are loaded with {loaded_on}" in caplog.text
    assert "could not be checked" not in caplog.text
    other = changed_weight(base, tmp_path / "other")
    for kind in {trained_on, loaded_on}:
        with pytest.raises(CheckpointError, match="different: linear"):
            load(other, kind)


@needs_bnb
def test_the_fingerprint_is_of_the_weights_before_quantisation(base, tmp_path):
    def found(folder, kind, dtype="bfloat16"):
        return describe_base(str(folder), pretrained(str(folder), dtype, True, kind)[1])

    plain = found(base, "none")
    assert plain["linear"] is not None
    parts = tmp_path / "parts"
    shutil.copytree(base, parts)
    PrefixLlama.from_pretrained(base).save_pretrained(parts, max_shard_size="60KB")
    (parts / "model.safetensors").unlink()
    assert len(list(parts.glob("*.safetensors"))) > 1
    for kind in KINDS:
        for folder in (base, parts):
            assert found(folder, kind) == {**plain, "name": str(folder), "quantization": kind}
        assert found(base, kind, "float32") == found(base, kind)
        assert found(changed_weight(base, tmp_path / kind), kind)["linear"] != plain["linear"]


@needs_bnb
def test_weights_that_are_stored_quantised_are_taken_as_they_are(base, tmp_path, caplog):
    shutil.copytree(base, tmp_path / "stored")
    pretrained(str(base), "bfloat16", True, "nf4")[1].save_pretrained(tmp_path / "stored")
    with pytest.raises(CheckpointError, match="quantization: int8, and '.*' is stored quantised; allowed: its unquant"):
        pretrained(str(tmp_path / "stored"), "bfloat16", True, "int8")
    module = frozen(tmp_path / "stored")
    assert module.base_model["linear"] is None and module.base_model["quantization"] == "nf4"
    trained(module, tmp_path, 1).save_checkpoint(tmp_path / "adapters.ckpt")
    load_module(AudioDescription, tmp_path / "adapters.ckpt")
    assert "could not be checked" in caplog.text


@needs_bnb
@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_leaves_weights_and_gradients_as_they_are(base, kind):
    """On some processors bitsandbytes would repack 4-bit weights for good, without a gradient."""
    module, gradients = quantised(base, kind), []
    before = weights(module)
    for _ in range(2):
        module.zero_grad()
        module.train().sentence_loss(scenes()).backward()
        gradients.append(module.model.bridge.prompts.grad.clone())
        module.eval().describe(scenes())
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("after_a_step", [False, True])
def test_int8_layers_compute_with_the_weights_where_they_are(bnb, base, after_a_step):
    """Whatever moved them: a module around them would move the weights alone."""
    layer, x = quantised(base, "int8").model.llm.model.layers[0].mlp.up_proj, torch.randn(2, 64)
    expected = quantised(base, "int8").model.llm.model.layers[0].mlp.up_proj(x)
    if after_a_step:
        layer(x)
    holder = layer.state if after_a_step else layer.weight
    holder.CB = holder.CB.to("meta")  # stands for the device that the weights have left
    assert torch.equal(layer(x), expected)


def test_scales_are_fetched_with_int8_weights():
    here, there = torch.ones(3), torch.ones(3, device="meta")
    empty = SimpleNamespace(CB=None, SCB=None)
    moved = SimpleNamespace(data=there, device=there.device, CB=here, SCB=here)
    quantization._fetch(SimpleNamespace(weight=moved, state=empty), ())
    assert moved.CB is there and moved.SCB.device.type == "meta"
    assert empty.CB is None
    state = SimpleNamespace(CB=here, SCB=here)
    weight = SimpleNamespace(data=there, device=there.device, CB=None, SCB=None)
    quantization._fetch(SimpleNamespace(weight=weight, state=state), ())
    assert state.CB is there and state.SCB.device.type == "meta"


@needs_bnb
@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_language_model_is_not_sharded(base, kind):
    with pytest.raises(ConfigError, match=rf"quantization: {kind} with trainer=fsdp: .* cannot"):
        shard(quantised(base, kind).model, mesh=None)


@pytest.mark.parametrize("kind", KINDS)
def test_low_rank_adapters_are_trained_beside_it(bnb, base, kind, tmp_path):
    pytest.importorskip("peft", reason="the extra `lora` is not installed", exc_type=ImportError)
    module, plain = quantised(base, kind, {"lora": {"rank": 2}}), quantised(base, kind)
    expected = plain.eval().predict_tokens(scenes())[0]
    assert torch.equal(module.eval().predict_tokens(scenes())[0], expected)
    assert {name: n for name, n in module.parts().items() if name != "lora"} == plain.parts()
    module.train()
    before = weights(module)
    trained(module, tmp_path, 2).save_checkpoint(tmp_path / "adapters.ckpt")
    moved = {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}
    assert moved == {name for name in before if not name.startswith("model.llm.") or ".lora_" in name}
    assert set(torch.load(tmp_path / "adapters.ckpt", weights_only=True)["state_dict"]) == moved
    assert module.base_model["linear"] == frozen(base).base_model["linear"]
    again = load_module(AudioDescription, tmp_path / "adapters.ckpt")
    assert again.eval().describe(scenes()) == module.eval().describe(scenes())


def kept_by_int8(output):
    """Bytes of the inputs that bitsandbytes' int8 products hold on to, each storage once."""
    storages, seen, queue = {}, set(), [output.grad_fn]
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        queue += [following for following, _ in node.next_functions]
        if "MatMul8bit" in node.name():
            storage = node.A.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    assert len(storages) > 1
    return storages


@needs_bnb
def test_int8_layers_keep_the_inputs_that_the_formula_counts(tmp_path):
    sizes = {"hidden_size": 256, "intermediate_size": 640, "num_attention_heads": 4, "num_hidden_layers": 1}
    _, llm = pretrained(str(folder_of(tmp_path / "base", **sizes)), "bfloat16", True, "int8")
    x, tokens, kept = torch.randn(2, 200, 256, dtype=torch.bfloat16, requires_grad=True), 200, {}
    prefix = Prompts(llm, torch.randn(2, 1, 10, 256, requires_grad=True), torch.randn(1, 4, requires_grad=True))
    embeddings = llm.model.rotary_emb(x, torch.arange(tokens)[None])

    def forward():
        out = llm.model.layers[0](x, position_embeddings=embeddings, prefix=prefix)
        kept.update(kept_by_int8(out))
        return out

    by_torch = memory.saved_bytes(llm, forward)
    found = (by_torch + sum(kept.values())) / (2 * tokens)
    assert 0.9 < found / memory.layer_bytes(llm, "int8") <= 1.02


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_quantised_weights_are_counted(bnb, compose_run, kind, tmp_path):
    base = folder_of(tmp_path / "base", hidden_size=256, intermediate_size=768, num_attention_heads=4)
    options = ["experiment=madv2_lcaam", "scale=mini", f"task.llm.pretrained={base}", "task.llm.frozen=true"]
    options += ["task.llm.dtype=bfloat16", "task.prefix_layers=3"]
    found = memory.memory(compose_run(*options, f"task.llm.quantization={kind}"))
    state = pretrained(str(base), "bfloat16", True, kind)[1].state_dict()
    held = sum(value.nbytes for name, value in state.items() if "quant_map" not in name and "bitsandbytes" not in name)
    assert found["language model's weights"] == pytest.approx(held / 1e9, rel=0.02)
    assert found["language model's weights"] < 0.6 * memory.memory(compose_run(*options))["language model's weights"]


@needs_bnb
@pytest.mark.parametrize("stored", [{"load_in_8bit": True}, {"bnb_4bit_quant_type": "nf4"}])
def test_layers_that_are_not_of_the_kind_that_the_model_says_stop(stored):
    """As after a release of bitsandbytes that quantises with another class."""
    llm = PrefixLlama(LlamaConfig(vocab_size=11, num_hidden_layers=1, **SIZES))
    quantization.tame(llm)
    llm.config.quantization_config = SimpleNamespace(**stored)
    with pytest.raises(RuntimeError, match="without any Linear"):
        quantization.tame(llm)


@needs_bnb
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("llama", "llama 3")])
def test_other_families_are_quantised_as_well(family, tmp_path):
    module = quantised(folder_of_family(tmp_path, family, hidden_size=64, intermediate_size=64), "nf4")
    module.sentence_loss(scenes()).backward()
    assert module.model.gates.grad.abs().max() > 0
    assert len(module.eval().describe(scenes(2))) == 2


@needs_bnb
@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_were_not_quantised_although_asked_for_stop(base, kind, monkeypatch):
    """As after a release of transformers that knows the options by other names."""
    monkeypatch.setattr("tasks.audio_description.language_model.loading_options", lambda kind: {})
    with pytest.raises(RuntimeError, match=rf"{kind} was asked for, and 21 of 21 linear layers are not Linear"):
        quantised(base, kind)


@needs_bnb
def test_one_layer_that_was_left_out_stops(base):
    llm = quantised(base, "nf4").model.llm
    quantization.check_quantised(llm, "nf4")
    llm.model.layers[1].mlp.up_proj = nn.Linear(64, 96)
    with pytest.raises(RuntimeError, match=r"1 of 21 linear layers .*\(model.layers.1.mlp.up_proj\)"):
        quantization.check_quantised(llm, "nf4")


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_the_packages_the_extra_is_named(base, kind, package, monkeypatch):
    with monkeypatch.context() as changed:
        for name in ("accelerate", "bitsandbytes"):
            module = None if name == package else sys.modules.get(name, sys)
            changed.setitem(sys.modules, name, module)
        with pytest.raises(ConfigError, match=rf"{kind} needs .*{package}.*: pip install 'lcaam\[quantization\]'"):
            quantised(base, kind)
    assert frozen(base).base_model["quantization"] == "none"
