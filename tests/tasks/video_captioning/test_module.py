"""The Lightning module on small batches: what is hidden, what is trained, what is reported."""

import json

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from configs.errors import ConfigError
from tasks.common.captions import score_captions
from tasks.common.errors import CheckpointError
from tasks.video_captioning import tokenizer as words
from tasks.video_captioning.masking import IGNORED
from tasks.video_captioning.module import VideoCaptioning
from tests.tasks.video_captioning.small import CONTEXT, NONE, STATIC

TEXTS = ["a red seven slides to the left", "a blue two moves in a circle", "the white one is bouncing"]
SIZES = dict(lr=1e-3, vocab_size=200, text_tokens=12, video_dim=None, width=12, layers=2, heads=3, feedforward=20)
SIZES |= dict(positions=16, dropout=0.0, decoding={"max_length": 9})
SWIN = dict(size=None, embed_dim=4, depths=[1, 1], heads=[1, 2], window=[2, 4, 4], drop_path=0.5)


def facts(**changes) -> dict:
    return {"frames": 4, "image_size": 16, "grid": 7, "feature_dim": 5, "train_texts": TEXTS, **changes}


def module_of(mask=NONE, of_data=None, **changes) -> VideoCaptioning:
    torch.manual_seed(0)
    return VideoCaptioning(mask=mask, facts=of_data or facts(), **{**SIZES, **changes})


def batch_of(size: int = 3) -> dict:
    random = torch.Generator().manual_seed(3)
    return {
        "features": torch.randn(size, 7, 5, generator=random),
        "caption": TEXTS[:size],
        "references": [[text, "another one"] for text in TEXTS[:size]],
        "video": [f"video{number}" for number in range(size)],
    }


def frames_batch(size: int = 2) -> dict:
    batch = batch_of(size)
    del batch["features"]
    return batch | {"frames": torch.randn(size, 4, 3, 16, 16)}


def test_the_loss_of_a_test_is_the_same_in_batches_of_any_size_and_order():
    """So it is the same over any number of ranks: what is hidden depends on the video alone, and words are counted."""
    module, batch = module_of(CONTEXT | {"scope": "per_layer"}).eval(), batch_of()
    losses = []
    for parts in ([[0, 1, 2]], [[2, 0], [1]], [[1], [2], [0]]):
        module.test_loss.reset()
        for rows in parts:
            part = {n: [v[i] for i in rows] if isinstance(v, list) else v[rows] for n, v in batch.items()}
            module.count(part, module.test_loss)
        losses.append(module.test_loss.compute()["loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_the_training_loss_is_the_mean_cross_entropy_of_the_hidden_words(monkeypatch):
    """Recomputed one hidden word at a time from the model's own logits."""
    module, batch = module_of().eval(), batch_of()
    given = {}
    original = module.model.loss

    def kept(features, input_ids, labels, text_keep):
        given.update(ids=input_ids, labels=labels, keep=text_keep)
        return original(features, input_ids, labels, text_keep)

    monkeypatch.setattr(module.model, "loss", kept)
    loss, number = module.hidden_loss(batch, (1, 2, 3, 0))
    logits = module.model(batch["features"], given["ids"], given["keep"])
    terms = [
        -logits[row, place].log_softmax(-1)[label]
        for row, labels in enumerate(given["labels"].tolist())
        for place, label in enumerate(labels)
        if label != IGNORED
    ]
    assert len(terms) == number >= 6
    assert float(loss.detach()) == pytest.approx(float(torch.stack(terms).mean().detach()), rel=1e-5)


def test_a_draw_hides_the_same_words_again_and_another_draw_others():
    module, batch = module_of().eval(), batch_of()
    losses = [float(module.hidden_loss(batch, draw)[0]) for draw in ((5, 0, 1, 0), (5, 0, 1, 0), (5, 0, 2, 0))]
    assert losses[0] == losses[1] != losses[2]


def test_a_step_hides_by_seed_epoch_and_batch_and_ranks_share_the_draw(monkeypatch):
    module, draws = module_of(), []
    monkeypatch.setattr(module, "hidden_loss", lambda batch, draw: (draws.append(draw) or torch.zeros(()), 1))
    module.log = lambda *args, **options: None
    for seed, epoch, index, rank in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
        torch.manual_seed(seed)
        module._trainer = type("T", (), {"current_epoch": epoch, "global_rank": rank, "world_size": 2})()
        module.training_step(batch_of(), index)
    *others, of_rank_1 = draws
    assert len(set(others)) == 4 and of_rank_1 == others[0]


def test_the_rate_rises_over_the_warm_up_and_falls_on_a_line():
    module = module_of(lr=1.0, warmup=0.2)
    module._trainer = type("T", (), {"estimated_stepping_batches": 10})()
    configured = module.configure_optimizers()
    rates = []
    for _ in range(10):
        rates.append(configured["lr_scheduler"]["scheduler"].get_last_lr()[0])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_the_sparsity_loss_is_added_with_its_weight():
    plain, heavy = (module_of(STATIC | {"sparsity": weight}) for weight in (0.0, 2.0))
    losses = []
    for module in (plain, heavy):
        module.log = lambda *args, **options: None
        module._trainer = type("T", (), {"current_epoch": 0, "global_rank": 0, "world_size": 1})()
        losses.append(float(module.training_step(batch_of(), 0)))
    table = plain.model.stack.masks.nets[0].table.detach()
    sparsity = float((table.sigmoid() * (1 - torch.eye(7))).mean())
    assert losses[1] - losses[0] == pytest.approx(2 * sparsity, rel=1e-4)


def test_a_blind_model_reads_no_video():
    module, batch = module_of(blind=True).eval(), batch_of()
    other = {**batch, "features": batch["features"] * 9 - 1}
    assert float(module.hidden_loss(batch, (0,))[0]) == float(module.hidden_loss(other, (0,))[0])
    assert not module.features(batch).any()


def test_pixels_train_the_backbone_at_its_own_rate_and_a_frozen_one_not_at_all():
    of_data = facts(grid=None, feature_dim=None)
    for rate in (0.0, 0.05):
        module = module_of(of_data=of_data, backbone={**SWIN, "lr": rate}).train()
        batch = frames_batch()
        module.hidden_loss(batch, (0,))[0].backward()
        moved = [p.grad is not None for p in module.model.backbone.parameters()]
        assert all(moved) if rate else not any(moved)
        if not rate:  # stochastic depth is off, whatever mode the module is in
            assert torch.equal(module.features(batch), module.features(batch))
        module._trainer = type("T", (), {"estimated_stepping_batches": 10})()
        optimiser = module.configure_optimizers()["optimizer"]
        names = {id(p): name for name, p in module.model.named_parameters()}
        rates = {
            names[id(p)]: (g["initial_lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]
        }
        assert ("backbone.swin.norm.weight" in rates) == bool(rate)
        if rate:
            assert rates["backbone.swin.norm.weight"] == (pytest.approx(5e-5), 0.2)
            table = "backbone.swin.features.0.0.attn.relative_position_bias_table"
            assert rates[table] == (pytest.approx(5e-5), 0.0)
        assert rates["head.decoder.weight"] == (1e-3, 0.2)
        assert rates["head.decoder.bias"] == rates["embeddings.LayerNorm.weight"] == (1e-3, 0.0)


def test_frames_for_a_model_of_features_are_refused_and_the_other_way_round():
    with pytest.raises(CheckpointError, match="trained on features of videos .* these are frames"):
        module_of().write(frames_batch())
    of_pixels = module_of(of_data=facts(grid=None, feature_dim=None), backbone=SWIN)
    with pytest.raises(CheckpointError, match="trained on frames .* these are features of videos"):
        of_pixels.write(batch_of())


def test_a_blind_model_trains_no_backbone_that_ranks_would_wait_for():
    module = module_of(of_data=facts(grid=None, feature_dim=None), backbone=SWIN, blind=True).train()
    module.hidden_loss(frames_batch(), (0,))[0].backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)
    assert not any(p.requires_grad for p in module.model.backbone.parameters())


def test_more_beams_than_half_the_vocabulary_stop_before_training():
    most = len(module_of().tokenizer) // 2
    assert module_of(decoding={"num_beams": most}).decoding.num_beams == most
    with pytest.raises(ConfigError, match=rf"task.decoding.num_beams: {most + 1} is more .* allowed: 1 to {most}"):
        module_of(decoding={"num_beams": most + 1})


def test_rows_hold_the_caption_that_decoding_gives_and_its_references():
    module, batch = module_of(CONTEXT).eval(), batch_of()
    rows = module.rows(batch)
    captions = module.model.generate(batch["features"], module.special, max_length=9)
    assert [row["generated"] for row in rows] == words.decode(module.tokenizer, captions.ids)
    assert [row["references"] for row in rows] == batch["references"]
    assert json.loads(json.dumps(rows)) == rows


def test_scores_are_the_field_s_and_exact_counts_any_reference():
    module = module_of(meteor="never")
    module.predictions = [
        {"video": "a", "references": ["a red one", "the red one"], "generated": "the red one"},
        {"video": "b", "references": ["a blue two"], "generated": "a green two"},
    ]
    found = module.score(module.predictions, module.scorer_of_test())
    expected = score_captions(
        {row["video"]: row["generated"] for row in module.predictions},
        {row["video"]: row["references"] for row in module.predictions},
        ("bleu", "rouge_l", "cider"),
    )
    assert found.pop("exact") == 50
    assert found == {name: expected[name] for name in found} and len(found) == 3


@pytest.mark.parametrize(
    ("monitor", "options", "java", "message"),
    [
        ("val/cider", {}, True, "needs task.validate_text=true"),
        ("val/meteor", {"validate_text": True}, True, "needs task.meteor=always and Java"),
        ("val/meteor", {"validate_text": True, "meteor": "always"}, False, "needs task.meteor=always and Java"),
        ("val/cider", {"validate_text": True}, False, "without Java scores are called val/cider_plain"),
        ("val/bleu_4_plain", {"validate_text": True}, True, "with Java scores are called val/bleu_4"),
        ("val/cider", {"validate_text": True}, True, None),
        ("val/exact", {"validate_text": True}, False, None),
        ("val/loss", {}, False, None),
    ],
)
def test_a_callback_that_waits_for_a_score_that_never_comes_stops_before_training(
    monkeypatch, monitor, options, java, message
):
    monkeypatch.setattr("tasks.video_captioning.module.has_java", lambda: java)
    module = module_of(**options)
    module._trainer = type("T", (), {"callbacks": [ModelCheckpoint(monitor=monitor)]})()
    if message is None:
        module.on_fit_start()
    else:
        with pytest.raises(ConfigError, match=message):
            module.on_fit_start()


@pytest.mark.parametrize("mask", [NONE, CONTEXT, CONTEXT | {"scope": "per_layer"}, STATIC])
def test_analysis_has_a_map_a_layer_over_video_then_text(mask):
    found = module_of(mask).eval().analyse(batch_of())
    masks = {} if mask["scope"] == "none" else found["masks"]
    assert found["tokens"] == {"boundaries": [7], "labels": ["video", "text"]}
    assert found["attention"].keys() == {"layer 1", "layer 2"}
    if mask["scope"] == "per_layer":
        assert masks.keys() == {"layer 1", "layer 2"}
    for heat in masks.values():
        assert heat.ndim == 2 and heat.shape[0] >= 7


def test_flops_count_backbone_layers_and_head_the_same_on_every_backend():
    batch = batch_of()
    counted = {
        backend: module_of(CONTEXT, backend=backend).flops(batch) for backend in ("auto", "reference", "chunked")
    }
    assert len(set(counted.values())) == 1
    tokens, (width, inner, layers) = 7 + len(TEXTS[0].split()) + 2, (12, 20, 2)
    text, vocabulary = tokens - 7, len(module_of().tokenizer)
    per_layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner
    mask = tokens * (width**2 + layers * width * tokens)  # depth 2; the reference multiplies it out in every layer
    macs = 7 * 5 * width + layers * per_layer + mask + text * width**2 + text * width * vocabulary
    assert counted["auto"] == 2 * macs


def test_a_checkpoint_holds_its_tokenizer_and_asks_for_no_file_again(tmp_path):
    module = module_of(of_data=facts(grid=None, feature_dim=None), backbone=SWIN).eval()
    saved = dict(module.hparams)
    assert saved["backbone"]["weights"] is None and saved["bert"] is None and "train_texts" not in saved["facts"]
    again = VideoCaptioning(**saved).eval()
    again.load_state_dict(module.state_dict())
    batch = frames_batch()
    assert again.write(batch) == module.write(batch)
    assert again.tokenizer("a red two")["input_ids"] == module.tokenizer("a red two")["input_ids"]


def test_words_and_ids_go_there_and_back_and_long_captions_are_cut():
    tokenizer = words.train(TEXTS, vocab_size=200)
    ids, keep = words.encode(tokenizer, [TEXTS[0], "A Blue  TWO"], longest=50)
    assert words.decode(tokenizer, ids) == [TEXTS[0], "a blue two"]
    assert keep.sum(1).tolist() == [9, 5] and ids[1, 5:].eq(tokenizer.pad_token_id).all()
    ids, keep = words.encode(tokenizer, ["red " * 200, ""], longest=12)
    assert ids.shape == (2, 12) and ids[0, -1] == tokenizer.sep_token_id
    assert ids[1, :2].tolist() == [tokenizer.cls_token_id, tokenizer.sep_token_id] and keep[1].sum() == 2
    assert words.dump(words.train(TEXTS, vocab_size=200)) == words.dump(tokenizer)
    with pytest.raises(ValueError, match="got none"):
        words.train([], 100)


def test_a_tokenizer_without_berts_special_tokens_is_refused(tmp_path):
    from tasks.audio_description import tokenizer as llama

    llama.train(TEXTS, 300).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no .*mask_token.* not a BERT's"):
        words.pretrained(str(tmp_path))


def test_small_models_learn_to_say_what_a_video_shows():
    """After some steps each of three videos gets its own sentence: training and decoding agree."""
    torch.manual_seed(0)
    module, batch = module_of(CONTEXT, lr=1e-2), batch_of()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for step in range(150):
        optimiser.zero_grad()
        module.hidden_loss(batch, (0, 0, step, 0))[0].backward()
        optimiser.step()
    assert module.eval().write(batch) == TEXTS
    assert np.isfinite(float(module.hidden_loss(batch, (1,))[0]))
