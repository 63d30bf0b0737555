"""The whole audio description model on small random scenes."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lcaam import StaticMask
from lcaam.stack import SCOPES
from tasks.audio_description.module import AudioDescription
from tasks.audio_description.tokenizer import dump, load, train
from tests.lcaam.names import FUSIONS
from tests.tiers import slow

SHOWN, HEARD = ("one", "two", "three", "four"), ("five", "six", "seven", "eight")
SENTENCES = [f"a {shown} while {heard} rings" for shown in SHOWN for heard in HEARD]
FACTS = {"video_dim": 6, "audio_dim": 5, "tokens": 4, "train_texts": SENTENCES}


def build(scope="per_layer", fusion="mul", seed=0, mask_changes=None, **changes):
    torch.manual_seed(seed)
    mask = {"scope": scope, "fusion": fusion, "depth": 3, "hidden": None, "rank": None, "groups": 1, "num_keys": None}
    mask |= {"residual": False, "init": "identity", "length": "fixed", **(mask_changes or {})}
    llm = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    options = dict(width=16, layers=2, heads=2, feedforward=32, llm={"config": llm}, lr=5e-3, warmup=0.1)
    options |= dict(bridge="tokens", prefix_layers=2, gate_init=1.0, bridge_heads=2, decoding={"max_new_tokens": 8})
    return AudioDescription(**{"mask": mask, "facts": FACTS, **options, **changes})


def scenes(count=16, seed=0):
    """Random features that tell the sentence apart; the last scene is padded, the first has no sound at all."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.ones(count, 4, dtype=torch.bool)
    keep[-1, 2:] = False
    return {
        "video": torch.randn(count, 4, 6, generator=generator),
        "audio": torch.randn(count, 4, 5, generator=generator),
        "video_keep": keep,
        "audio_keep": keep & (torch.arange(count) > 0)[:, None],
        "text": SENTENCES[:count],
        "movie": ["m"] * count,
        "start": torch.arange(count, dtype=torch.float64),
        "end": torch.arange(count, dtype=torch.float64) + 1,
        "ann_id": [str(i) for i in range(count)],
    }


class Scenes(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader([scenes()] * 150, batch_size=None)

    def val_dataloader(self):
        return DataLoader([scenes()], batch_size=None)

    test_dataloader = val_dataloader

    def facts(self):
        return FACTS

    def oracle(self):
        return {str(i): text for i, text in enumerate(SENTENCES)}


def fit(module, tmp_path, max_steps=-1):
    options = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer = pl.Trainer(
        max_epochs=1, max_steps=max_steps, default_root_dir=tmp_path, num_sanity_val_steps=1, **options
    )
    trainer.fit(module, Scenes())
    validated = dict(trainer.callback_metrics)
    trainer.test(module, Scenes(), verbose=False)
    return trainer, validated


@pytest.mark.parametrize("bridge", ["tokens", slow("queries")])
def test_it_learns_sixteen_scenes_by_heart_and_reports_everything(bridge, tmp_path):
    module = build(bridge=bridge, prompts=3, validate_text=True, lr=1e-2)
    trainer, validated = fit(module, tmp_path)
    right = [row["generated"] == row["reference"] for row in module.predictions]
    assert sum(right) >= 14
    assert [row["ann_id"] for row in module.predictions] == [str(i) for i in range(16)]
    name = "cider" if "cider" in module.test_metrics else "cider_plain"
    assert module.test_metrics["exact"] == 100 * sum(right) / 16
    scores = module.reference_scores(Scenes())
    assert scores["constant"][name] < module.test_metrics[name] <= scores["ceiling"][name] + 1e-9
    assert scores["constant"]["R@5/16[rougeL]"] < 60
    assert trainer.callback_metrics["test/loss"] < 0.5
    assert "val/" + name in validated

    path = tmp_path / "whole.ckpt"
    trainer.save_checkpoint(path)
    again = AudioDescription.load_from_checkpoint(path, weights_only=True, map_location="cpu").eval()
    assert "train_texts" not in again.hparams["facts"]
    assert again.describe(scenes()) == module.eval().describe(scenes())


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_gets_a_finite_gradient(scope, fusion):
    module = build(scope, fusion)
    module.sentence_loss(scenes()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("scope", SCOPES)
def test_padding_content_changes_nothing(scope):
    module, batch = build(scope).eval(), scenes()
    noisy = dict(batch)
    for track in ("video", "audio"):
        keep = batch[f"{track}_keep"][..., None]
        noisy[track] = torch.where(keep, batch[track], 50 * torch.randn_like(batch[track]))
    torch.testing.assert_close(module.sentence_loss(noisy), module.sentence_loss(batch), rtol=0, atol=1e-5)


def test_both_tracks_reach_the_sentence():
    """Seen in the predictions: in a mean over scenes, changes of single ones cancel."""
    module, batch = build().eval(), scenes()
    for track in ("video", "audio"):
        other = {**batch, track: batch[track].flip(0)}
        changes = (module.predict_tokens(other)[0] - module.predict_tokens(batch)[0]).abs()
        assert changes.max() > 1e-2


def test_a_blind_model_reads_nothing():
    module, batch = build(blind=True).eval(), scenes()
    other = {**batch, "video": batch["video"].flip(0), "audio": batch["audio"].flip(0)}
    assert torch.equal(module.sentence_loss(other), module.sentence_loss(batch))
    assert len(set(module.describe(batch))) == 1


def test_loss_counts_the_sentence_and_its_end_but_not_the_prompt():
    """Equal to a sum over tokens by hand, one sentence at a time."""
    module = build(prompt="describe one").eval()
    batch = scenes()
    total, count = 0.0, 0
    prompt = [1, *module.tokenizer("describe one", add_special_tokens=False)["input_ids"]]
    assert len(prompt) > 1
    for i, text in enumerate(batch["text"]):
        one = {name: value[i : i + 1] for name, value in batch.items()}
        ids = [*prompt, *module.tokenizer(text, add_special_tokens=False)["input_ids"], 2]
        logits = module.model.llm(input_ids=torch.tensor([ids]), **module.prefix(one)).logits.log_softmax(-1)
        for position in range(len(prompt), len(ids)):
            total -= logits[0, position - 1, ids[position]].item()
            count += 1
    assert module.sentence_loss(batch).item() == pytest.approx(total / count, abs=1e-5)


def test_analysis_holds_every_layers_mask_and_attention():
    found = build("per_layer").analyse(scenes())
    assert list(found["masks"]) == list(found["attention"]) == ["layer 1", "layer 2"]
    assert found["masks"]["layer 1"].shape == (8, 8)
    assert found["tokens"]["boundaries"] == [4]
    assert found["statistics"]["layer 2/sign_flips"] == 0.0, "the identity starts at 1 everywhere"
    assert build("none").analyse(scenes())["masks"] == {}


def test_parts_add_up():
    module = build("per_layer")
    assert sum(module.parts().values()) == sum(p.numel() for p in module.parameters())
    assert module.parts()["masks"] == 2 * (2 * (16 * 16 + 16) + 16 * 8 + 8)
    assert build("none").parts()["masks"] == 0


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("control", ["extra_linear", "extra_layers"])
def test_controls_take_the_masks_place_with_as_many_parameters(control, residual):
    masked = build(mask_changes={"depth": 7})
    module = build(mask_changes={"depth": 7, "control": control, "control_residual": residual})
    parts, wanted = module.parts(), masked.parts()
    assert parts["masks"] == 0
    assert parts["controls"] == pytest.approx(wanted["masks"], rel=0.005)
    assert {name: parts[name] for name in ("encoder", "bridge")} == {
        name: wanted[name] for name in ("encoder", "bridge")
    }
    module.sentence_loss(scenes()).backward()
    assert module.analyse(scenes())["masks"] == {}


@pytest.mark.parametrize("fusion", StaticMask.fusions)
def test_static_masks_train_with_their_sparsity_loss(fusion, tmp_path):
    module = build("shared", fusion, mask_changes={"kind": "static", "hard": False, "sparsity": 10.0})
    before = module.model.encoder.encoder.masks.sparsity_loss().item()
    fit(module, tmp_path, max_steps=20)
    assert module.model.encoder.encoder.masks.sparsity_loss().item() < before
    statistics = module.analyse(scenes())["statistics"]
    assert statistics["layer 1/context_sensitivity"] == 0.0


def test_flops_grow_by_exactly_the_masks():
    def mask_flops(module):
        return module.flops(scenes()) - build("none").flops(scenes())

    tokens, products = 8, 2 * 16 * 16 + 16 * 8  # two hidden layers and the product with the last weight
    assert mask_flops(build("per_layer")) == 2 * 2 * tokens * products
    assert mask_flops(build("shared")) == 2 * tokens * (2 * 16 * 16 + 2 * 16 * 8), "every layer multiplies it out again"
    assert build("none").model.encoder.encoder.layers[0].attention.backend == "auto"


def test_tokenizer_round_trip():
    tokenizer = train(SENTENCES)
    ids = tokenizer(SENTENCES, add_special_tokens=False)["input_ids"]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == SENTENCES
    assert load(dump(tokenizer))(SENTENCES)["input_ids"] == ids
    assert [tokenizer.convert_tokens_to_ids(token) for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert tokenizer.pad_token_id == 0
    with pytest.raises(ValueError, match="needs training captions"):
        train([])


def test_a_pretrained_model_is_frozen_and_its_folder_is_enough(tmp_path):
    source = build()
    source.model.llm.save_pretrained(tmp_path)
    source.tokenizer.save_pretrained(tmp_path)
    module = build(llm={"pretrained": str(tmp_path), "frozen": True})
    assert not any(p.requires_grad for p in module.model.llm.parameters())
    module.sentence_loss(scenes()).backward()
    assert module.model.gates.grad is not None
    expected = source.model.llm(input_ids=torch.tensor([[1, 5, 6]])).logits
    torch.testing.assert_close(module.model.llm(input_ids=torch.tensor([[1, 5, 6]])).logits, expected)
