"""Low-rank adapters in the frozen language model: what they compute, what is trained, saved and refused."""

import json
import sys

import pytest
import pytorch_lightning as pl
import torch
from transformers import LlamaConfig

from configs.errors import ConfigError
from configs.schema import validate
from scripts import memory
from tasks.audio_description.base_model import describe_base
from tasks.audio_description.language_model import LanguageModel, checkpoint_activations
from tasks.audio_description.lora import PROJECTIONS, LoRA, add_lora, is_lora
from tasks.audio_description.module import AudioDescription
from tasks.audio_description.prefix import PrefixLlama, Prompts, gated_prefix
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tests.ranks import on_two_ranks
from tests.tasks.audio_description.families import folder_of as folder_of_family
from tests.tasks.audio_description.test_frozen import folder_of, frozen, trained, weights
from tests.tasks.audio_description.test_module import scenes
from tests.tasks.audio_description.test_prefix import IDS, config, gates, prompts
from tests.tasks.audio_description.test_prefix_lazy import TinyDescriber

EVERYWHERE = {"rank": 3, "alpha": 5.0, "targets": list(PROJECTIONS)}
KEEP = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="the extra `lora` is not installed", exc_type=ImportError)


needs_peft = pytest.mark.usefixtures("peft")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("base"))


def with_lora(base, lora=None, llm=None, **changes):
    return frozen(base, {"lora": {} if lora is None else lora, **(llm or {})}, **changes)


def moved_apart(llm):
    """Adapters as after a long training."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in llm.named_parameters():
        if is_lora(name):
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


@needs_peft
def test_layers_that_the_model_does_not_have_are_named(tmp_path):
    base = folder_of_family(tmp_path, "phi3")
    with pytest.raises(ConfigError, match="this 'phi3' model has no q_proj; allowed: .*gate_up_proj, o_proj, qkv_proj"):
        with_lora(base, {"rank": 2, "targets": ["q_proj", "o_proj"]})
    module = with_lora(base, {"rank": 2, "targets": ["qkv_proj", "gate_up_proj"]})
    assert module.parts()["lora"] == 4 * 2 * ((32 + 64) + (32 + 96))


@needs_peft
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_before_training_it_is_the_plain_model_bit_for_bit(base, dtype):
    options = {"decoding": {"preset": "autoad", "max_new_tokens": 6}}
    plain, adapted = frozen(base, {"dtype": dtype}, **options), with_lora(base, EVERYWHERE, {"dtype": dtype}, **options)
    assert isinstance(adapted.model.llm, PrefixLlama)
    for training in (True, False):
        expected, _ = plain.train(training).predict_tokens(scenes())
        assert torch.equal(adapted.train(training).predict_tokens(scenes())[0], expected)
    assert adapted.describe(scenes()) == plain.describe(scenes())
    for name, value in plain.state_dict().items():
        name = name if name in adapted.state_dict() else name.replace("_proj.", "_proj.base_layer.")
        assert torch.equal(adapted.state_dict()[name], value), name


@needs_peft
@pytest.mark.parametrize("make", [Prompts, gated_prefix])
@pytest.mark.parametrize("key_value_heads", [4, 1])
def test_it_is_the_language_model_whose_weights_have_the_low_rank_update_folded_in(make, key_value_heads):
    """W + alpha / rank B A in every projection, those that make the prefix's keys and values included."""
    torch.manual_seed(0)
    sizes = config(num_key_value_heads=key_value_heads)
    merged, adapted = PrefixLlama(sizes).eval(), PrefixLlama(sizes).eval().requires_grad_(False)
    adapted.load_state_dict(merged.state_dict())
    add_lora(adapted, LoRA(**EVERYWHERE))
    moved_apart(adapted)
    plain = {"input_ids": IDS, "attention_mask": KEEP, "prefix": make(merged, prompts(), gates())}
    before = merged(**plain).logits
    for name, module in merged.named_modules():
        if name.endswith(PROJECTIONS):
            pair = adapted.get_submodule(name)
            update = pair.lora_B["default"].weight @ pair.lora_A["default"].weight
            module.weight.data += 5.0 / 3 * update.detach()
    plain["prefix"] = make(merged, prompts(), gates())
    found = {**plain, "prefix": make(adapted, prompts(), gates())}
    expected = merged(**plain).logits
    torch.testing.assert_close(adapted(**found).logits, expected, rtol=1e-4, atol=1e-5)
    assert (expected - before).abs().max() > 0.01
    words = {"max_new_tokens": 5, "do_sample": False, "num_beams": 2}
    assert torch.equal(adapted.generate(**found, **words), merged.generate(**plain, **words))


@needs_peft
@pytest.mark.parametrize("checkpointing", [True, False])
def test_training_moves_the_low_rank_weights_and_not_the_language_model(base, checkpointing, tmp_path):
    lora = {"rank": 2, "dropout": 0.1, "targets": ["v_proj", "down_proj"]}
    module = with_lora(base, lora, {"dtype": "bfloat16", "gradient_checkpointing": checkpointing})
    assert module.parts()["lora"] == 3 * (2 * (16 + 16) + 2 * (32 + 16))
    assert {name: n for name, n in module.parts().items() if name != "lora"} == frozen(base).parts()
    assert sum(module.parts().values()) == sum(p.numel() for p in module.parameters())
    before = weights(module)
    trainer = trained(module, tmp_path, 4)
    after = module.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith("model.llm.") or ".lora_" in name}
    assert len([name for name in moved if ".lora_" in name]) == 2 * 2 * 3
    assert {after[name].dtype for name in moved} == {torch.float32}
    assert {after[name].dtype for name in before.keys() - moved} == {torch.bfloat16}
    optimised = sum(p.numel() for group in trainer.optimizers[0].param_groups for p in group["params"])
    assert optimised == sum(count for part, count in module.parts().items() if part != "language_model")
    trainer.save_checkpoint(tmp_path / "adapters.ckpt")
    assert set(torch.load(tmp_path / "adapters.ckpt", weights_only=True)["state_dict"]) == moved


@needs_peft
def test_a_checkpoint_gives_the_same_words_and_its_base_is_told_without_the_adapters(base, tmp_path):
    module = with_lora(base, EVERYWHERE)
    trained(module, tmp_path, 3).save_checkpoint(tmp_path / "adapters.ckpt")
    again = load_module(AudioDescription, tmp_path / "adapters.ckpt")
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again.eval().describe(scenes()) == module.eval().describe(scenes())
    assert again.base_model | {"lora": None} == describe_base(str(base), frozen(base).model.llm)


@needs_peft
def test_a_checkpoint_refuses_a_model_with_other_adapters(base, tmp_path):
    files = {"plain": frozen(base), "lora": with_lora(base, {"rank": 2})}
    for name, module in files.items():
        trained(module, tmp_path, 1).save_checkpoint(tmp_path / f"{name}.ckpt")

    def load(name, **llm):
        return load_module(AudioDescription, tmp_path / f"{name}.ckpt", llm={"pretrained": str(base), **llm})

    given = r"LoRA \(task.llm.lora={rank: 2, alpha: 16, targets: \[q_proj, v_proj\]}\)"
    with pytest.raises(CheckpointError, match=rf"the checkpoint has {given}, and the model at hand has no LoRA"):
        load("lora")
    with pytest.raises(CheckpointError, match=rf"the checkpoint has no LoRA \(.*\), and the model at hand has {given}"):
        load("plain", lora={"rank": 2})
    for other in ({"rank": 3}, {"rank": 2, "alpha": 8.0}, {"rank": 2, "targets": ["q_proj"]}):
        with pytest.raises(CheckpointError, match="they must be the same"):
            load("lora", lora=other)
    load("lora", lora={"rank": 2, "dropout": 0.5, "targets": ["v_proj", "q_proj"]})


@needs_peft
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(base, tmp_path):
    straight = with_lora(base)
    trained(straight, tmp_path / "a", 4)

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    trained(with_lora(base), tmp_path / "b", 4, callbacks=[Stop()])
    second = with_lora(base, seed=5)
    trained(second, tmp_path / "c", 4, resume=tmp_path / "stopped.ckpt")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@needs_peft
def test_a_blind_model_trains_its_adapters_and_reads_no_input(base, tmp_path):
    module, batch = with_lora(base, blind=True), scenes()
    before = weights(module)
    trained(module, tmp_path, 2)
    assert all(not torch.equal(before[name], value) for name, value in module.state_dict().items() if is_lora(name))
    other = {**batch, "video": batch["video"].flip(0), "audio": batch["audio"].flip(0)}
    assert torch.equal(module.sentence_loss(other), module.sentence_loss(batch))


@needs_peft
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["o_proj"], ["down_proj"], list(PROJECTIONS)])
@pytest.mark.parametrize("width, feedforward, heads", [(256, 512, 4), (256, 768, 2)])
def test_a_layers_bytes_are_those_that_autograd_keeps(width, feedforward, heads, targets):
    sizes = LlamaConfig(
        vocab_size=8, hidden_size=width, intermediate_size=feedforward, num_hidden_layers=1, num_attention_heads=heads
    )
    llm, tokens, lora = PrefixLlama(sizes).bfloat16().requires_grad_(False).train(), 200, LoRA(4, targets=targets)
    add_lora(llm, lora)
    x = torch.randn(2, tokens, width, dtype=torch.bfloat16, requires_grad=True)
    prefix = Prompts(llm, torch.randn(2, 1, 10, width, requires_grad=True), torch.randn(1, heads, requires_grad=True))
    embeddings = llm.model.rotary_emb(x, torch.arange(tokens)[None])
    with torch.autocast("cpu", torch.bfloat16):
        kept = memory.saved_bytes(llm, lambda: llm.model.layers[0](x, position_embeddings=embeddings, prefix=prefix))
    assert 0.9 < kept / (2 * tokens * memory.layer_bytes(llm, lora=lora)) <= 1.02


def test_the_memory_of_low_rank_adapters_is_in_the_sum(compose_run, base):
    options = ["experiment=madv2_lcaam", "scale=mini", f"task.llm.pretrained={base}", "task.llm.frozen=true"]
    plain, lora = (memory.memory(compose_run(*options, *more)) for more in ([], ["task.llm.lora={rank: 2}"]))
    added = 3 * 2 * 2 * (16 + 16)  # layers, targets, rank x (inputs + outputs)
    assert lora["LoRA's weights"] == pytest.approx(4 * added / 1e9)
    assert lora["gradients"] - plain["gradients"] == pytest.approx(4 * added / 1e9)
    kept = (found["activations of the language model"] for found in (plain, lora))
    per_layer = 20 * 16 + 6 * 32
    assert next(kept) * 3 * (per_layer + 2 * 2 * (16 + 2)) == pytest.approx(next(kept) * per_layer), "all layers keep"
    assert lora["sum"] == pytest.approx(sum(value for name, value in lora.items() if name != "sum"))


def sharded_and_whole(mesh=None):
    """Loss and gradients of a describer with a bfloat16 language model and float32 adapters; sharded over `mesh`."""
    from tasks.audio_description.sharding import shard

    torch.manual_seed(0)
    llm = PrefixLlama(LlamaConfig(**config().to_dict())).bfloat16().requires_grad_(False)
    checkpoint_activations(llm)
    add_lora(llm, LoRA(rank=2))
    moved_apart(llm)
    model = TinyDescriber(llm).train()
    if mesh is not None:
        shard(model, mesh)
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))
    logits = model.llm(input_ids=IDS, attention_mask=KEEP, use_cache=False, **model.prefix(x)).logits
    loss = logits.float().square().mean()
    loss.backward()
    found = {"loss": loss.item()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name != "encoder.prompts":  # which that stand-in does not use
            gradient = parameter.grad
            found[name] = (gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient).tolist()
    return found


def rank_main(rank, folder):
    from torch.distributed.device_mesh import init_device_mesh

    (folder / f"{rank}.json").write_text(json.dumps(sharded_and_whole(init_device_mesh("cpu", (2,)))))


@needs_peft
def test_a_sharded_language_model_gives_the_same_loss_and_gradients(tmp_path):
    """FSDP2 over two ranks with the same batch, whose mean gradient is that of one."""
    on_two_ranks(rank_main, tmp_path)
    whole = sharded_and_whole()
    assert sum(is_lora(name) for name in whole) == 2 * 2 * 3
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found.keys() == whole.keys()
        for name, value in whole.items():
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(value), rtol=1e-3, atol=1e-5)


def test_without_peft_the_extra_is_named(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"task.llm.lora needs peft .*: pip install 'lcaam\[lora\]'"):
        with_lora(base)


@pytest.mark.parametrize("llm, has", [({"pretrained": None}, "pretrained=null"), ({"frozen": False}, "frozen=false")])
def test_it_belongs_to_a_pretrained_frozen_language_model(base, llm, has):
    with pytest.raises(ConfigError, match=rf"task\.llm\.lora with task\.llm\.{has}: .* or task\.llm\.lora=null"):
        with_lora(base, llm=llm)


@pytest.mark.parametrize(
    "lora, message",
    [
        ({"rank": 0}, "task.llm.lora.rank: 0 is out of range"),
        ({"alpha": 0.0}, "task.llm.lora.alpha: 0.0 is out of range"),
        ({"alpha": float("inf")}, "task.llm.lora.alpha: inf is out of range"),
        ({"dropout": 1.0}, "task.llm.lora.dropout: 1.0 is out of range"),
        ({"targets": ["q_prj"]}, r"unknown 'q_prj'; did you mean 'q_proj'\? \(allowed: q_proj, k_proj"),
        ({"targets": []}, "task.llm.lora.targets: an empty list"),
        ({"targets": ["q_proj", "q_proj"]}, "task.llm.lora.targets: q_proj, q_proj; wanted"),
    ],
)
def test_values_out_of_range_are_named(lora, message):
    with pytest.raises(ConfigError, match=message):
        LanguageModel(pretrained="somewhere", lora=lora)


@pytest.mark.parametrize(
    "given, message",
    [
        ("{rank: 0}", "task.llm.lora.rank: 0 is out of range"),
        ("{rank: two}", "task.llm.lora.rank: 'two' is not an int"),
        ("{ranks: 2}", "task.llm.lora.ranks: unknown key; did you mean 'rank'"),
        ("{targets: [q_prj]}", r"task.llm.lora.targets: \['q_prj'\] is not"),
    ],
)
def test_a_misspelt_configuration_is_refused_before_anything_is_loaded(compose_run, given, message):
    validate(compose_run("experiment=madv2_lcaam", "task.llm.lora={rank: 4, targets: [q_proj, down_proj]}"))
    with pytest.raises(ConfigError, match=message):
        validate(compose_run("experiment=madv2_lcaam", f"task.llm.lora={given}"))
