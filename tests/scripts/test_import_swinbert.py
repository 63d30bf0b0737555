"""Released SwinBERT checkpoints: every weight finds its place, sizes come from the weights, others are refused."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from configs.schema import validate
from datamodules.video_captioning.mini.mp4 import write_mp4
from scripts.caption_videos import load
from scripts.caption_videos import main as caption_main
from scripts.import_checkpoint import main
from scripts.importers.swinbert import convert, released
from tasks.common.errors import CheckpointError
from tasks.video_captioning.beam_search import Special
from tasks.video_captioning.model import SwinBert
from tasks.video_captioning.swin import VideoSwin
from tasks.video_captioning.upstream import captioner_from_upstream
from tests.tasks.video_captioning.test_swin import published_names

SWIN = dict(size=None, embed_dim=8, depths=(1, 2), heads=(2, 4))


def bert_names(model: SwinBert) -> dict[str, torch.Tensor]:
    """A SwinBert's own state dict as SwinBERT calls it, without the backbone."""
    out = {}
    for name, value in model.state_dict().items():
        for ours, theirs in (
            ("embeddings.", "trans_encoder.bert.embeddings."),
            ("stack.layers.", "trans_encoder.bert.encoder.layer."),
            ("video_embedding.", "trans_encoder.bert.img_embedding."),
            ("head.decoder.bias", "trans_encoder.cls.predictions.bias"),
            ("head.", "trans_encoder.cls.predictions."),
            ("project.", "fc."),
        ):
            if name.startswith(ours):
                out[theirs + name.removeprefix(ours)] = value
                break
    return out


def file_of(model: SwinBert, table=None) -> dict[str, torch.Tensor]:
    state = bert_names(model) | published_names(model.backbone.swin.state_dict(), "swin.backbone.")
    width = model.head.decoder.in_features
    state |= {"trans_encoder.bert.pooler.dense.weight": torch.zeros(width, width)}
    state |= {"trans_encoder.cls_img_feat.bias": torch.zeros(7)}
    return state if table is None else state | {"learn_vid_att.weight": table.reshape(-1, 1)}


def small(mask=None):
    torch.manual_seed(0)
    sizes = dict(vocab_size=31, feature_dim=16, video_tokens=6, text_tokens=50, video_dim=10, width=128, layers=2)
    model = SwinBert(**sizes, heads=2, feedforward=24, positions=60, mask=mask, backbone=VideoSwin(**SWIN))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def built(content):
    options, backbone, state, remarks = released(content, "model.bin")
    model = SwinBert(**options, backbone=VideoSwin(**backbone))
    model.load_state_dict(state)
    return model.eval(), remarks


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_frames_and_words_give_the_released_model_s_logits(key):
    original, table = (
        small({"scope": "shared", "kind": "static", "fusion": "add", "hard": False}),
        torch.randn(6, 6) * 9,
    )
    original.stack.masks.nets[0].table.data.copy_(table)
    content = file_of(original, table)
    model, remarks = built(content if key is None else {key: content, "epoch": 3})
    frames, ids = torch.randn(2, 4, 3, 16, 24), torch.randint(31, (2, 9))
    keep = torch.arange(9) < torch.tensor([[9], [4]])
    features = model.encode(frames)
    assert torch.equal(features, original.encode(frames)) and features.shape == (2, 12, 16)
    logits = model(features[:, :6], ids, keep)
    assert torch.equal(logits, original(features[:, :6], ids, keep))
    through_entry = captioner_from_upstream(content, 2)(features[:, :6], ids, keep, "static", table)
    torch.testing.assert_close(logits[keep], through_entry[keep], rtol=0, atol=1e-5)
    unused = ("bert.pooler.dense.weight", "cls_img_feat.bias")
    expected = ", ".join(f"trans_encoder.{name}" for name in unused)
    assert remarks == [f"left out, as no caption depends on them: {expected}"]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"module": state, "optimizer": None, "global_steps": 3},
        lambda state: {"module": {f"module.{name}": value for name, value in state.items()}, "dp_world_size": 8},
        lambda state: {"model": {"module": state}},
    ],
    ids=["DistributedDataParallel", "DeepSpeed", "both", "within model"],
)
def test_wrapped_checkpoints_are_the_same_model(wrapped):
    content = file_of(small(), torch.randn(6, 6))
    _, _, expected, _ = released(content, "model.bin")
    _, _, state, remarks = released(wrapped(content), "model.bin")
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
    assert any("'module.' before every name" in text for text in remarks) == any(
        "module." in n for n in flat(wrapped({"a": 1}))
    )


def flat(content: dict) -> list[str]:
    """All names, inner ones as well."""
    return [
        name for key, value in content.items() for name in ([key, *flat(value)] if isinstance(value, dict) else [key])
    ]


def test_without_a_learned_mask_attention_is_full_and_said_to_be():
    options, _, state, remarks = released(file_of(small()), "model.bin")
    assert options["mask"]["scope"] == "none" and options["video_tokens"] == 784
    assert not any("masks" in name for name in state)
    assert remarks[-1] == "no learned mask in it: full attention between 784 video tokens"


def test_a_checkpoint_of_the_published_size_loads_completely_by_names_and_shapes(monkeypatch):
    """Without memory: SwinBERT's sizes, its mask of 784 x 784, Video Swin-B."""
    published = {"scope": "shared", "kind": "static", "fusion": "add", "hard": False}
    with torch.device("meta"):
        content = file_of(SwinBert(mask=published, backbone=VideoSwin("base")), torch.empty(784, 784))
    monkeypatch.setattr(torch, "isfinite", lambda tensor: torch.ones(1, dtype=torch.bool))  # there are no numbers
    options, backbone, state, _ = released(content, "model.bin")
    assert (backbone["embed_dim"], backbone["depths"], backbone["heads"]) == (128, [2, 2, 18, 2], [4, 8, 16, 32])
    sizes = dict(vocab_size=30522, width=768, layers=12, heads=12, feedforward=3072, positions=512, feature_dim=1024)
    sizes |= dict(video_dim=512, text_tokens=50, video_tokens=784)
    assert {name: options[name] for name in sizes} == sizes
    with torch.device("meta"):
        model = SwinBert(**options, backbone=VideoSwin(**backbone))
    assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in state.items()}
    assert sum(p.numel() for p in model.parameters()) == 224_885_250 - 2_167_040 - 590_592


def test_checkpoints_of_something_else_are_refused():
    whole = file_of(small(), torch.randn(6, 6))
    wrong = {
        "its Video Swin is missing": {n: t for n, t in whole.items() if not n.startswith("swin.")},
        "its projection fc is missing": {n: t for n, t in whole.items() if not n.startswith("fc.")},
        "'decoder.weight' is not a parameter of SwinBERT": whole | {"decoder.weight": torch.ones(1)},
        "has 35 logits, not a square number": whole | {"learn_vid_att.weight": torch.ones(35, 1)},
        "numbers that are not finite": whole | {"fc.bias": torch.full((10,), torch.nan)},
        "entries; windows of": whole
        | {"swin.backbone.layers.0.blocks.0.attn.relative_position_bias_table": torch.ones(9, 2)},
        "gives 16 features per token, its fc takes 5": whole | {"fc.weight": torch.ones(10, 5)},
        "a checkpoint of this project already": {"state_dict": {}, "hyper_parameters": {}},
        "no state dict 'model' in it": {"a": 1},
        "word_embeddings.weight' is missing": {"a": torch.ones(1)},
    }
    for message, content in wrong.items():
        with pytest.raises(CheckpointError, match=f"model.bin.*{message}"):
            released(content, "model.bin")


def whole_file(tokens: int = 49) -> tuple[SwinBert, dict[str, torch.Tensor]]:
    """A model that reads 2 frames of 224 pixels, and its file."""
    torch.manual_seed(1)
    swin = VideoSwin(size=None, embed_dim=4, depths=(1, 1, 1, 1), heads=(1, 1, 2, 4))
    sizes = dict(vocab_size=31, feature_dim=32, video_tokens=49, text_tokens=50, video_dim=10, width=64, layers=2)
    mask = {"scope": "shared", "kind": "static", "fusion": "add", "hard": False}
    model = SwinBert(**sizes, heads=1, feedforward=24, positions=60, mask=mask, backbone=swin).eval()
    torch.nn.init.normal_(model.head.decoder.bias, std=3)
    torch.nn.init.normal_(model.embeddings.word_embeddings.weight, std=3)
    table = torch.randn(tokens, tokens) * 9
    if tokens == 49:
        model.stack.masks.nets[0].table.data.copy_(table)
    return model, file_of(model, table)


def tokenizer_folder(folder, words: int):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(words - 5))]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    return folder


def test_an_imported_checkpoint_writes_the_released_model_s_caption_for_a_video_file(tmp_path, capsys):
    original, content = whole_file()
    torch.save(content, tmp_path / "model.bin")
    tokenizer, out = tokenizer_folder(tmp_path / "words", 31), tmp_path / "run" / "checkpoints" / "last.ckpt"
    main(["swinbert", str(tmp_path / "model.bin"), str(out), "--tokenizer", str(tokenizer)])
    datamodule = load(tmp_path / "run")[1]
    write_mp4(tmp_path / "v.mp4", np.random.default_rng(0).integers(0, 255, (9, 64, 48, 3), dtype=np.uint8), rate=8)
    batch = datamodule.example(tmp_path / "v.mp4")
    assert batch["frames"].shape == (1, 2, 3, 224, 224)
    ids = original.generate(original.encode(batch["frames"]), Special(0, 2, 3, 4)).ids
    expected = " ".join(f"w{word - 5}" for word in ids[0].tolist() if word > 4)
    capsys.readouterr()
    caption_main([str(tmp_path / "v.mp4"), "--checkpoint", str(tmp_path / "run")])
    assert capsys.readouterr().out.strip() == expected != ""
    validate(OmegaConf.load(tmp_path / "run" / "config.yaml"))


def test_a_tokenizer_of_another_size_or_none_at_all_is_refused(tmp_path):
    _, content = whole_file()
    with pytest.raises(CheckpointError, match=r"knows 31 words, tokenizer .* has 30.*--tokenizer"):
        convert(content, "model.bin", str(tokenizer_folder(tmp_path / "words", 30)))
    with pytest.raises(CheckpointError, match="neither a folder with a tokenizer"):
        convert(content, "model.bin", str(tmp_path / "nowhere"))


def test_a_mask_that_no_video_has_tokens_for_is_refused():
    with pytest.raises(CheckpointError, match="no video of 224 pixels has the 50 tokens"):
        convert(whole_file(50)[1], "model.bin")
