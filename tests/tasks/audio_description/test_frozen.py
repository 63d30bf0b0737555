"""A pretrained, frozen language model: what may be loaded, adapter-only checkpoints, resuming, two ranks."""

import json
import shutil

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

from tasks.audio_description.base_model import describe_base
from tasks.audio_description.language_model import pretrained
from tasks.audio_description.module import AudioDescription
from tasks.audio_description.tokenizer import train
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tests.tasks.audio_description.test_module import FACTS, SENTENCES, build, scenes

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
LARGE = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4}


def folder_of(path, seed=0, **sizes):
    """A LLaMA with its tokenizer, as transformers saves them."""
    source = build(seed=seed, llm={"config": {**SIZES, **sizes}})
    source.model.llm.save_pretrained(path)
    source.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("base"))


def frozen(path, llm=None, **changes):
    llm = {"pretrained": str(path), "frozen": True, "gradient_checkpointing": True, "dtype": "float32", **(llm or {})}
    return build(llm=llm, **changes)


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader([scenes()] * 6, batch_size=None)

    def val_dataloader(self):
        return DataLoader([scenes()], batch_size=None)

    def facts(self):
        return FACTS


def trained(module, folder, steps, resume=None, **options):
    options = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu") | options
    trainer = pl.Trainer(max_steps=steps, default_root_dir=folder, num_sanity_val_steps=0, **options)
    trainer.fit(module, Data(), ckpt_path=resume, weights_only=True)
    return trainer


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_training_moves_the_adapters_and_not_the_language_model(base, tmp_path):
    module = frozen(base, {"dtype": "bfloat16"})
    before = weights(module)
    trainer = trained(module, tmp_path, 4)
    after = module.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if not name.startswith("model.llm.")} == moved
    assert {p.dtype for p in module.model.llm.parameters()} == {torch.bfloat16}
    assert {after[name].dtype for name in moved} == {torch.float32}
    optimised = sum(p.numel() for group in trainer.optimizers[0].param_groups for p in group["params"])
    assert optimised == sum(count for part, count in module.parts().items() if part != "language_model")
    trainer.save_checkpoint(tmp_path / "adapters.ckpt")
    checkpoint = torch.load(tmp_path / "adapters.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == moved


def test_activations_are_checkpointed_while_training_and_gradients_stay_the_same(base):
    """transformers loads models in evaluation mode, in which nothing would be checkpointed."""
    results = []
    for checkpointing in (True, False):
        module, calls = frozen(base, {"gradient_checkpointing": checkpointing}), []
        module.model.llm.model.layers[-1].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        module.sentence_loss(scenes()).backward()
        results.append([p.grad for p in module.parameters() if p.requires_grad])
        assert len(calls) == (2 if checkpointing else 1)
    for with_checkpoints, without in zip(*results, strict=True):
        torch.testing.assert_close(with_checkpoints, without)


def test_an_adapter_checkpoint_is_below_a_twentieth_and_gives_the_same_words(tmp_path):
    """With a language model 80 times the adapters; the mini set's is smaller than they are."""
    base = folder_of(tmp_path / "base", **LARGE)
    module = frozen(base, prefix_layers=1)
    trainer = trained(module, tmp_path, 2)
    trainer.save_checkpoint(tmp_path / "adapters.ckpt")
    whole = tmp_path / "whole.ckpt"
    torch.save({"state_dict": module.state_dict()}, whole)
    assert (tmp_path / "adapters.ckpt").stat().st_size < 0.05 * whole.stat().st_size
    again = load_module(AudioDescription, tmp_path / "adapters.ckpt").eval()
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again.describe(scenes()) == module.eval().describe(scenes())


def changed_weight(base, folder):
    """The same model with one linear layer retrained."""
    shutil.copytree(base, folder)
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"] *= 1.1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_adapters_load_onto_the_same_base_wherever_it_lies_and_refuse_another(base, tmp_path):
    module = frozen(base)
    trained(module, tmp_path, 1).save_checkpoint(tmp_path / "adapters.ckpt")

    def load(folder, **llm):
        return load_module(AudioDescription, tmp_path / "adapters.ckpt", llm={"pretrained": str(folder), **llm})

    moved = shutil.copytree(base, tmp_path / "moved")
    for dtype in ("float32", "bfloat16"):
        assert torch.equal(load(moved, dtype=dtype).model.gates, module.model.gates)
    other = changed_weight(base, tmp_path / "other")
    with pytest.raises(CheckpointError) as caught:
        load(other)
    assert f"expected '{base}' (3 layers of width 16" in str(caught.value)
    assert f"found '{other}' (3 layers" in str(caught.value)
    assert "different: linear" in str(caught.value)
    deeper = folder_of(tmp_path / "deeper", num_hidden_layers=4)
    with pytest.raises(CheckpointError, match="different: num_hidden_layers, rest, linear"):
        load(deeper)
    with pytest.raises(CheckpointError, match="brings none"):
        load_module(AudioDescription, tmp_path / "adapters.ckpt", llm={"config": SIZES}, tokenizer=None,
                    facts={**module.hparams.facts, "train_texts": SENTENCES})  # fmt: skip


def test_missing_adapters_are_an_error(base, tmp_path):
    module = frozen(base)
    trainer = trained(module, tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "adapters.ckpt")
    checkpoint = torch.load(tmp_path / "adapters.ckpt", weights_only=True)
    del checkpoint["state_dict"]["model.gates"]
    torch.save(checkpoint, tmp_path / "lacking.ckpt")
    with pytest.raises(CheckpointError, match=r"missing weights: \['model.gates'\]"):
        load_module(AudioDescription, tmp_path / "lacking.ckpt")


def test_a_prefix_for_more_layers_than_a_pretrained_model_has_is_refused(base):
    with pytest.raises(CheckpointError, match="task.prefix_layers: 4 is more than the language model has; .*1 to 3"):
        frozen(base, prefix_layers=4)


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(base, tmp_path):
    straight = frozen(base)
    trained(straight, tmp_path / "a", 6, accumulate_grad_batches=1)
    first = frozen(base)

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    trained(first, tmp_path / "b", 6, callbacks=[Stop()])
    second = frozen(base, seed=5)
    trained(second, tmp_path / "c", 6, resume=tmp_path / "stopped.ckpt")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_blind_frozen_model_learns_its_prompts_alone(base, tmp_path):
    module = frozen(base, blind=True)
    before = weights(module)
    trained(module, tmp_path, 3)
    moved = {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}
    assert {"model.bridge.prompts", "model.gates"} <= moved
    assert not any(name.startswith("model.llm.") for name in moved)
    batch = scenes()
    other = {**batch, "video": batch["video"].flip(0), "audio": batch["audio"].flip(0)}
    assert torch.equal(module.sentence_loss(other), module.sentence_loss(batch))


def test_the_fingerprint_is_of_the_values(base, tmp_path):
    def found(folder, dtype="float32"):
        return describe_base("x", pretrained(str(folder), dtype, True)[1])

    assert found(base) == found(base, "bfloat16")
    assert found(base) != found(changed_weight(base, tmp_path / "other"))
    assert found(base)["rest"] == found(tmp_path / "other")["rest"]


def without(folder, base, **changes):
    """A copy of the base with its tokenizer's settings changed."""
    shutil.copytree(base, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **changes}))
    return folder


def gpt2(folder, base):
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=20)).save_pretrained(folder)


def lacking_weights(folder, base):
    shutil.copytree(base, folder)
    state = load_file(folder / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def bare_sentencepiece(folder, base):
    shutil.copytree(base, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "tokenizer.model").write_bytes(b"x")


def larger_tokenizer(folder, base):
    shutil.copytree(base, folder)
    train([*SENTENCES, "quick brown foxes jump over lazy dogs"]).save_pretrained(folder)


def as_meta_hands_it_out(folder, base):
    folder.mkdir()
    torch.save({}, folder / "consolidated.00.pth")
    (folder / "params.json").write_text('{"dim": 64}')


def several_sizes_of_meta(folder, base):
    folder.mkdir()
    as_meta_hands_it_out(folder / "7B", base)
    (folder / "tokenizer.model").write_bytes(b"x")


def no_tokenizer(folder, base):
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("tokenizer*", "special*"))


def tokenizer_without_its_vocabulary(folder, base):
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("tokenizer.json"))


def weights_alone(folder, base):
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("config.json", "tokenizer*"))


@pytest.mark.parametrize(
    "make, message",
    [
        (
            as_meta_hands_it_out,
            r"as Meta hands it out \(it holds consolidated.00.pth, params.json\).*convert_llama_weights",
        ),
        (several_sizes_of_meta, r"as Meta hands it out \(it holds 7B, tokenizer.model\).*such as huggyllama/llama-7b"),
        (no_tokenizer, r"given has no tokenizer \(it holds config.json, .*\); add the tokenizer.json"),
        (tokenizer_without_its_vocabulary, r"given has no tokenizer \(it holds config.json, .*tokenizer_config.json\)"),
        (
            weights_alone,
            r"given has no config.json \(it holds .*model.safetensors\); expected: a folder as transformers",
        ),
        (gpt2, r"is a 'gpt2' model; the prefix goes into LLaMA-family models"),
        (lacking_weights, r"no weights for 1 of the language model's parameters \(model.norm.weight\)"),
        (lambda folder, base: without(folder, base, bos_token=None), "no beginning-of-sentence token"),
        (lambda folder, base: without(folder, base, eos_token=None), "no end-of-sentence token"),
        (bare_sentencepiece, "has a tokenizer.model alone"),
        (larger_tokenizer, "they do not belong together"),
        (lambda folder, base: None, "is neither a folder with a language model"),
    ],
)
def test_what_is_no_language_model_for_this_is_refused(make, message, base, tmp_path):
    make(tmp_path / "given", base)
    with pytest.raises(CheckpointError, match=message):
        pretrained(str(tmp_path / "given"), "float32", True)


def test_padding_falls_back_to_another_token_and_decoding_defaults_are_dropped(base, tmp_path):
    folder = without(tmp_path / "given", base, pad_token=None, unk_token=None)
    defaults = {"do_sample": True, "temperature": 0.6, "max_length": 3}
    (folder / "generation_config.json").write_text(json.dumps(defaults))
    tokenizer, llm = pretrained(str(folder), "float32", True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    assert not llm.generation_config.do_sample
    assert llm.generation_config.max_length != 3
    module = frozen(folder, decoding={"preset": "autoad", "max_new_tokens": 6})
    assert len(module.describe(scenes())) == 16


def test_a_saved_tokenizer_gives_the_same_ids(base):
    ours = train(SENTENCES)
    assert pretrained(str(base), "float32", True)[0](SENTENCES)["input_ids"] == ours(SENTENCES)["input_ids"]
