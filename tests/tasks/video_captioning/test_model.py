"""SwinBert: the equation of its attention, who sees whom, parameter counts, what is refused."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, RobertaConfig

from lcaam.analysis import record
from lcaam.controls import TOLERANCE
from lcaam.fusion import Fusion
from tasks.common.errors import CheckpointError
from tasks.video_captioning.bert import may_attend
from tasks.video_captioning.masking import IGNORED
from tasks.video_captioning.model import SwinBert
from tests.lcaam.names import FUSIONS, SCOPES
from tests.tasks.video_captioning.small import (
    CONTEXT,
    MASKS,
    NONE,
    STATIC,
    TEXT,
    VIDEO,
    WIDTH,
    captioner,
    real,
    videos,
    words,
)

LENGTHS = (TEXT, 1, 6)


def bert_config(layers, **options) -> BertConfig:
    sizes = dict(vocab_size=23, hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=3)
    return BertConfig(**sizes, intermediate_size=20, max_position_embeddings=16, **options)


def literal_structure(lengths) -> torch.Tensor:
    """Who may look at whom, one pair at a time."""
    out = torch.zeros(len(lengths), 1, VIDEO + TEXT, VIDEO + TEXT, dtype=torch.bool)
    for sample, length in enumerate(lengths):
        for query in range(VIDEO + TEXT):
            for key in range(VIDEO + TEXT):
                of_video, word = key < VIDEO, key - VIDEO
                earlier = query >= VIDEO and word <= query - VIDEO and word < length
                out[sample, 0, query, key] = of_video or earlier
    return out


def literal_mask(model, layer, x, first):
    """M of a layer, from its definition; None if there is none. x: the layer's input, first: the stack's."""
    masks = model.stack.masks
    if masks.scope == "none" or layer >= masks.num_layers:
        return None
    net = masks.nets[layer if masks.scope == "per_layer" else 0]
    source = first if masks.scope == "shared" else x
    if hasattr(net, "table"):
        weight = net.table.sigmoid()
        weight = (net.table >= 0).float() if net.hard else weight
        weight = torch.where(torch.eye(VIDEO, dtype=torch.bool), 1.0, weight)
        m = (1 - weight) * -1e4 if net.fusion.name == "add" else (weight / (1 - weight).clamp(min=1e-30)).log()
        return F.pad(m, (0, TEXT, 0, TEXT), value=0.0 if net.fusion.name == "add" else 80.0)
    h = source
    for linear in net.hidden:
        h = linear(h).relu()
    if net.length == "content":
        g = net.last(net.key_hidden(source).relu())
        return (h @ g[..., :-1].transpose(1, 2) / net.rank**0.5 + g[..., -1][:, None])[:, None]
    h = h if net.squeeze is None else net.squeeze(h)
    h = h.view(*h.shape[:2], net.groups if net.squeeze is not None else 1, -1).transpose(1, 2)
    w = net.last.weight.view(net.groups, VIDEO + TEXT, -1)
    return h @ w.transpose(1, 2) + net.last.bias.view(net.groups, 1, -1)


def written_out(model, features, ids, lengths) -> torch.Tensor:
    """The logits by the equations, on every pair at once."""
    video = model.video_embedding(model.project(features))
    e = model.embeddings
    text = e.word_embeddings(ids) + e.position_embeddings.weight[: ids.shape[1]] + e.token_type_embeddings.weight[0]
    x = first = torch.cat([video, e.LayerNorm(text)], 1)
    for number, layer in enumerate(model.stack.layers):
        m, a = literal_mask(model, number, x, first), layer.attention
        q, k, v = (p(x).unflatten(-1, (3, -1)).transpose(1, 2) for p in (a.self.query, a.self.key, a.self.value))
        score = q @ k.transpose(2, 3) / (WIDTH / 3) ** 0.5
        score = score if m is None else Fusion.parse(model.stack.fusion)(score, m)
        weight = score.masked_fill(~literal_structure(lengths), -torch.inf).softmax(-1)
        out = a.output.after(a.output.dense((weight @ v).transpose(1, 2).flatten(2)))
        x = a.output.LayerNorm(x + out)
        x = layer.output.LayerNorm(x + layer.output.dense(F.gelu(layer.intermediate.dense(x))))
    head = model.head
    states = head.transform.LayerNorm(F.gelu(head.transform.dense(x[:, VIDEO:])))
    return states @ head.decoder.weight.T + head.decoder.bias


def test_the_structure_is_video_open_and_words_causal_up_to_their_caption_s_end():
    assert torch.equal(may_attend(real(*LENGTHS), VIDEO), literal_structure(LENGTHS))


@pytest.mark.parametrize("name", MASKS)
def test_logits_are_the_equation_s_with_every_kind_of_mask(name):
    model = captioner(MASKS[name])
    found = model(videos(), words(), real(*LENGTHS))
    torch.testing.assert_close(found, written_out(model, videos(), words(), LENGTHS), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MASKS if name not in ("none", "extra linear", "extra layers")])
def test_every_kind_of_mask_changes_the_logits(name):
    model = captioner(MASKS[name])
    masked = model(videos(), words(), real(*LENGTHS))
    model.stack.fusion = Fusion.none
    assert (masked - model(videos(), words(), real(*LENGTHS))).abs().max() > 1e-3


@pytest.mark.parametrize("name", MASKS)
def test_no_word_sees_a_later_one_whatever_the_mask(name):
    model = captioner(MASKS[name])
    whole = model(videos(), words(), real(TEXT, TEXT, TEXT))
    for length in (1, 4, TEXT - 1):
        changed = words()
        changed[:, length:] = words(seed=9)[:, length:]
        other = model(videos(), changed, real(TEXT, TEXT, TEXT))
        torch.testing.assert_close(whole[:, :length], other[:, :length], rtol=0, atol=1e-9)
        assert (whole[:, length:] - other[:, length:]).abs().max() > 1e-3
        shorter = model(videos(), words()[:, :length], real(*[length] * 3, text=length))
        torch.testing.assert_close(whole[:, :length], shorter, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", MASKS)
def test_no_video_token_sees_the_text_whatever_the_mask(name):
    model = captioner(MASKS[name])
    states = []
    for seed in (2, 9):
        x = torch.cat([model.embed_video(videos()), model.embed_text(words(seed=seed))], 1)
        states.append(model.stack(x, may_attend(real(*LENGTHS), VIDEO)))
    torch.testing.assert_close(states[0][:, :VIDEO], states[1][:, :VIDEO], rtol=0, atol=1e-9)
    assert (states[0][:, VIDEO:] - states[1][:, VIDEO:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", MASKS)
def test_words_behind_the_end_of_a_caption_change_nothing_before_it(name):
    model, keep = captioner(MASKS[name]), real(*LENGTHS)
    before = model(videos(), words(), keep)
    after = model(videos(), torch.where(keep, words(), words(seed=9)), keep)
    torch.testing.assert_close(before[keep], after[keep], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["none", "shared mul", "static add"])
def test_without_its_mask_it_is_transformers_bert(name, tmp_path):
    """Weights copied from a folder, outputs compared with transformers' own attention; an additive mask is a bias."""
    torch.manual_seed(0)
    config = bert_config(layers=2, initializer_range=0.5)
    bert = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").double().eval()
    bert.save_pretrained(tmp_path)
    model = captioner(MASKS[name] | {"fusion": "none" if name == "none" else "add"})
    own = SwinBert(23, 5, VIDEO, TEXT, 6, WIDTH, 2, 3, 20, 16, mask=NONE, pretrained=str(tmp_path)).double()
    for part in ("embeddings", "head"):
        getattr(model, part).load_state_dict(getattr(own, part).state_dict())
    model.stack.layers.load_state_dict(own.stack.layers.state_dict())

    x = torch.cat([model.embed_video(videos()), bert.bert.embeddings(words())], 1)
    bias = torch.where(literal_structure(LENGTHS), 0.0, -torch.inf)
    if name != "none":
        bias = bias + literal_mask(model, 0, x, x)
    states = bert.bert.encoder(x, attention_mask=bias).last_hidden_state[:, VIDEO:]
    found = model(videos(), words(), real(*LENGTHS))
    torch.testing.assert_close(found, bert.cls(states), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_masks_that_start_as_identity_leave_the_outputs(scope, fusion):
    plain = captioner()
    torch.manual_seed(5)
    masked = SwinBert(23, 5, VIDEO, TEXT, 6, WIDTH, 2, 3, 20, 16, mask=CONTEXT | {"scope": scope, "fusion": fusion})
    missing = masked.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys and all(".masks." in name for name in missing.missing_keys)
    found = masked.double().eval()(videos(), words(), real(*LENGTHS))
    torch.testing.assert_close(found, plain(videos(), words(), real(*LENGTHS)), rtol=0, atol=1e-5)


def test_the_published_static_mask_starts_as_each_video_token_alone_and_learns_nothing():
    """N(0, 1) logits through (1 - sigmoid) * -1e4: the same as no attention between video tokens, and no gradient."""
    torch.manual_seed(0)
    published = SwinBert(23, 5, VIDEO, TEXT, 6, WIDTH, 2, 3, 20, 16, mask=STATIC).double().eval()
    alive = SwinBert(23, 5, VIDEO, TEXT, 6, WIDTH, 2, 3, 20, 16, mask=STATIC | {"fusion": "gate"}).double().eval()
    alive.load_state_dict(published.state_dict())
    alone = torch.eye(VIDEO, dtype=torch.bool)
    structure = literal_structure(LENGTHS)
    structure[:, :, :VIDEO, :VIDEO] = alone
    x = torch.cat([published.embed_video(videos()), published.embed_text(words())], 1)
    with torch.no_grad():
        expected = published.head(published.stack(x, structure, masks=captioner().stack.masks)[:, VIDEO:])
    for model, share in ((published, 0.0), (alive, 1.0)):
        logits = model(videos(), words(), real(*LENGTHS))
        assert ((logits - expected).abs().max() < 1e-12) == (model is published)
        logits.square().sum().backward()
        (grad,) = (net.table.grad for net in model.stack.masks.nets)
        assert ((grad.abs() > 1e-20) & ~alone).sum() == share * (VIDEO * VIDEO - VIDEO)


@pytest.mark.parametrize("name", [name for name in MASKS if name not in ("none", "static add", "static hard")])
def test_the_loss_reaches_every_parameter(name):
    model = captioner(MASKS[name]).train()
    labels = torch.where(real(*LENGTHS), words(seed=4), IGNORED)
    model.loss(videos(), words(), labels, real(*LENGTHS)).backward()
    # a key's bias shifts a whole row of scores, which a softmax ignores where the mask does not multiply
    idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    idle = {n for n in idle if "static per layer" not in name or ".masks." not in n}
    assert not {n for n in idle if not n.endswith("key.bias")}


def test_the_loss_is_the_mean_over_hidden_words_alone():
    model = captioner(MASKS["shared mul"])
    labels = torch.full((3, TEXT), IGNORED)
    labels[0, 3], labels[2, 5] = 7, 11
    log_probs = model(videos(), words(), real(*LENGTHS)).log_softmax(-1)
    expected = -(log_probs[0, 3, 7] + log_probs[2, 5, 11]) / 2
    torch.testing.assert_close(model.loss(videos(), words(), labels, real(*LENGTHS)), expected.float())


@pytest.mark.parametrize("name", ["shared mul", "per_layer add", "static add", "extra layers"])
def test_analysis_records_a_square_of_all_tokens_for_every_layer(name):
    model = captioner(MASKS[name])
    with record(model.stack) as records:
        model(videos(), words(), real(*LENGTHS))
    tokens = VIDEO + TEXT
    assert [r.name for r in records] == [f"layers.{i}.attention.self" for i in range(len(model.stack.layers))]
    for number, one in enumerate(records):
        assert one.weights.shape == (3, 3, tokens, tokens)
        assert torch.equal(one.keep.expand(3, 1, -1, -1), literal_structure(LENGTHS))
        masked = "extra" not in name and number < 2
        assert (one.mask is not None) == masked
        assert not masked or one.mask.shape[1:] == (1, tokens, tokens)


def test_published_sizes_have_the_published_parameter_counts():
    """136,106,810 in the original's BERT, with 2,167,040 + 590,592 that no caption depends on; 524,800 before it."""
    with torch.device("meta"):
        model = SwinBert(mask=STATIC)
    parts = model.parts()
    assert parts["encoder"] + parts["head"] == 136_106_810 - 2_167_040 - 590_592 + 524_800
    assert parts["masks"] == 784 * 784
    assert (parts["backbone"], parts["controls"]) == (0, 0)


@pytest.mark.parametrize("control", ["extra_linear", "extra_layers"])
def test_controls_have_as_many_parameters_as_the_masks(control):
    sizes = dict(vocab_size=50, width=64, layers=3, heads=4, feedforward=128, video_tokens=49, text_tokens=11)
    node = CONTEXT | {"scope": "per_layer", "depth": 9}
    with torch.device("meta"):
        masked, other = (SwinBert(**sizes, mask=mask).parts() for mask in (node, node | {"control": control}))
    assert other["masks"] == 0 and masked["controls"] == 0
    assert other["controls"] == pytest.approx(masked["masks"], rel=TOLERANCE)
    assert other["encoder"] == masked["encoder"] and other["head"] == masked["head"]


def test_bert_starts_as_the_original_s_and_masks_and_linear_controls_as_their_own():
    torch.manual_seed(0)
    node = CONTEXT | {"scope": "per_layer", "depth": 9, "control": "extra_linear"}
    model = SwinBert(500, 16, VIDEO, TEXT, 32, 64, 2, 4, 128, mask=node)
    for part in (model.video_embedding, model.head.decoder, model.stack.layers[1].intermediate.dense):
        assert part.weight.std().item() == pytest.approx(0.02, rel=0.1) and not part.bias.any()
    assert model.embeddings.word_embeddings.weight.std().item() == pytest.approx(0.02, rel=0.1)
    linears = model.stack.layers[0].after_attention.layers
    assert linears[0].weight.std().item() == pytest.approx(64**-0.5 / 3**0.5 / len(linears), rel=0.1)


REFUSED = {
    "mask.length=interpolate moves": dict(mask=CONTEXT | {"length": "interpolate"}),
    r"mask.num_keys: 9 is fewer than the 7 \+ 11 tokens": dict(mask=CONTEXT | {"num_keys": 9}),
    "heads=5 does not divide width=12": dict(heads=5),
    "video_tokens must be at least 1, got 0": dict(video_tokens=0),
    "11 text_tokens need as many positions, there are 10": dict(positions=10),
}


@pytest.mark.parametrize("message", REFUSED)
def test_sizes_and_masks_that_do_not_fit_are_refused(message):
    with pytest.raises(ValueError, match=message):
        captioner(**REFUSED[message])


def test_inputs_that_do_not_fit_are_refused():
    model = captioner()
    with pytest.raises(ValueError, match=r"features must be \(B, 7, C\).*\(3, 6, 5\)"):
        model(videos(tokens=6), words(), real(*LENGTHS))
    with pytest.raises(ValueError, match="a caption of 12 tokens, the model was built for 11"):
        model(videos(), words(length=12), real(*LENGTHS, text=12))
    with pytest.raises(ValueError, match="no backbone"):
        model.encode(torch.randn(1, 4, 3, 8, 8))


def test_a_pretrained_bert_that_is_missing_or_of_other_sizes_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="neither a folder with a BERT nor"):
        captioner(pretrained=str(tmp_path / "nowhere"))
    RobertaConfig().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is a model of type 'roberta', expected 'bert'"):
        captioner(pretrained=str(tmp_path))
    bert_config(layers=2).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="task.bert: .*cannot be used as a BERT's weights"):
        captioner(pretrained=str(tmp_path))
    BertForMaskedLM(bert_config(layers=3)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"of other sizes than the model: layers=2 \(its own: 3\)"):
        captioner(pretrained=str(tmp_path))
