"""The study of SwinBERT's static mask: its thresholds are float32's own, its gradients the training step's, its page
what its JSON says."""

import argparse
import json
import re

import pytest
import torch

from lcaam import LayerMasks, StaticMask, attention
from scripts.benchmarks.common import between_marks
from scripts.studies.static_mask import init as static_mask_init
from scripts.studies.static_mask import training as static_mask_training
from scripts.studies.static_mask.__main__ import PARTS, block, main
from scripts.studies.static_mask.openness import HALF, LEAST, bias, gradient, openness, sigmoid_for
from scripts.studies.static_mask.training import Probe, Variant, awake, digits, mask_of, trained
from tests.programs import ROOT

RESULTS = ROOT / "docs" / "results"


# -- how open a mask is ------------------------------------------------------------------------------------------------


def test_an_entry_passes_exactly_where_a_float32_softmax_gives_it_a_weight():
    cut = (1 - sigmoid_for(LEAST, "add")) * -1e4
    for shift, passes in ((0.5, True), (-1.0, False)):
        weight = torch.exp(torch.tensor(cut + shift, dtype=torch.float32))
        assert (weight > 0) == passes
        assert (torch.tensor([0.0, cut + shift]).softmax(0)[1] > 0) == passes
    assert sigmoid_for(LEAST, "gate") == 2**-149


@pytest.mark.parametrize("fusion", ["add", "gate"])
def test_a_half_open_entry_halves_its_attention_weight(fusion):
    net = StaticMask(2, 2, fusion=fusion).double()
    net.table.data.fill_(torch.tensor(sigmoid_for(HALF, fusion), dtype=torch.float64).logit())
    q = k = torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    v = torch.eye(2, dtype=torch.float64)[None, None]
    out = attention(q, k, v, net(torch.zeros(1, 2, 1)), fusion=fusion, backend="reference")[0, 0]
    torch.testing.assert_close(out[0, 1] / out[0, 0], torch.tensor(0.5, dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("fusion", ["add", "gate"])
def test_openness_counts_what_a_loop_counts(fusion):
    torch.manual_seed(0)
    net = StaticMask(7, 7, fusion=fusion)
    net.table.data.mul_(8)
    sigmoids, passes, half = [], 0, 0
    for i in range(7):
        for j in range(7):
            if i != j:
                s = 1 / (1 + torch.exp(-net.table[i, j].double())).item()
                factor = torch.tensor((1 - s) * -1e4, dtype=torch.float64).exp().item() if fusion == "add" else s
                sigmoids.append(s)
                passes += factor >= 2**-149
                half += factor >= 0.5
    found = openness(net)
    assert (round(found["passes"] * 42), round(found["half_open"] * 42)) == (passes, half)
    assert 0 < half < (43 if fusion == "gate" else passes)
    assert found["sigmoid"]["1.0"] == pytest.approx(max(sigmoids), rel=1e-12)
    assert found["sigmoid"]["0.5"] == pytest.approx(sorted(sigmoids)[20] / 2 + sorted(sigmoids)[21] / 2, rel=1e-9)


@pytest.mark.parametrize("fusion", ["add", "gate"])
def test_the_bias_is_what_the_mask_puts_on_scores(fusion):
    net = StaticMask(5, 5, fusion=fusion).double()
    q, k, v = torch.randn(3, 1, 1, 5, 4, dtype=torch.float64).unbind(0)
    net.table.data.add_(9.0)
    added = torch.zeros(5, 5, dtype=torch.float64).masked_scatter(~torch.eye(5, dtype=torch.bool), bias(net))
    expected = (q @ k.transpose(-2, -1) / 2 + added).softmax(-1) @ v
    out = attention(q, k, v, net(torch.zeros(1, 5, 1)), fusion=fusion, backend="reference")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9)


def test_a_gradient_too_small_for_its_square_has_a_norm():
    net = StaticMask(3, 3)
    found = gradient(net, (1e-40 * net.table).sum())
    assert found == {
        "nonzero": 1.0,
        "largest": pytest.approx(1e-40, rel=1e-4),
        "norm": pytest.approx(6**0.5 * 1e-40, rel=1e-4),
    }


def test_a_table_without_a_diagonal_is_refused():
    with pytest.raises(ValueError, match=r"a table of .4, 6. has no diagonal"):
        openness(StaticMask(4, 6))


# -- part 1 ------------------------------------------------------------------------------------------------------------


def parsed(module, *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.options(parser)
    return parser.parse_args(given)


def test_both_forms_are_read_from_one_table_in_one_model():
    arguments = parsed(static_mask_init, "--small")
    models = [
        static_mask_init.model_of(arguments, static_mask_init.mask_of(name))
        for name in ("static_swinbert", "static_logsigmoid")
    ]
    one, other = (model.state_dict() for model in models)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert [model.stack.masks.nets[0].fusion.name for model in models] == ["add", "gate"]


def test_the_small_model_says_that_the_published_form_is_an_identity_mask_and_gets_no_gradient():
    found = static_mask_init.study(parsed(static_mask_init, "--small", "--layers", "3"))
    published, other = found["forms"].values()
    assert found["sizes"]["layers"] == 3 and found["entries"] == 18 * 17
    assert published["logits_differ_from"]["identity"] == 0.0 and published["caption_gradient"]["nonzero"] == 0.0
    assert published["sparsity_gradient"]["nonzero"] == 1.0 and sum(published["bias"]["counts"]) == 18 * 17
    assert other["logits_differ_from"]["identity"] > 0 and other["caption_gradient"]["nonzero"] == 1.0
    assert found["draws"]["log sigmoid"]["passes"] == {"mean": 18 * 17, "most": 18 * 17}


def test_logits_of_the_study_are_the_models_own():
    arguments = parsed(static_mask_init, "--small")
    mask = static_mask_init.mask_of("static_logsigmoid")
    model = static_mask_init.model_of(arguments, mask)
    batch = static_mask_init.batch_of(model, seed=0)
    own = static_mask_init.logits_of(model, *batch, masks=model.stack.masks)
    assert torch.equal(own, model(batch[0], batch[1], batch[3]))


def test_alone_is_what_a_table_of_zeros_leaves():
    mask = static_mask_init.mask_of("static_logsigmoid")
    model = static_mask_init.model_of(parsed(static_mask_init, "--small"), mask)
    for weight in model.stack.layers.parameters():  # so that it matters who is looked at
        weight.mul_(20.0 if weight.dim() > 1 else 1.0)
    batch = static_mask_init.batch_of(model, seed=0)
    none = LayerMasks("none", 2)
    alone = static_mask_init.logits_of(model, *batch, masks=none, alone=True)
    full = static_mask_init.logits_of(model, *batch, masks=none)
    model.stack.masks.nets[0].table.data.fill_(-200.0)  # sigmoid: 1e-87
    torch.testing.assert_close(static_mask_init.logits_of(model, *batch, masks=model.stack.masks), alone)
    assert (alone - full).abs().max() > 1e-3


# -- part 2 ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def run(data, variant: Variant, seed: int = 0, every: int = 2, steps: int = 5, extra: tuple[str, ...] = ()):
    settings = [f"paths.data_dir={data}/data", f"paths.log_dir={data}/logs", *extra]
    given = ["--scale", "smoke", "--steps", str(steps), "--every", str(every), "--set", *settings]
    return trained(variant, seed, parsed(static_mask_training, *given))


@pytest.mark.slow
def test_looks_are_every_few_steps_and_after_the_last(data):
    found, _ = run(data, Variant("static_swinbert"))
    assert [record["step"] for record in found["records"]] == [0, 2, 4, 5]
    assert [one["step"] for one in found["validations"]][-1] <= 5
    assert found["sparsity"] == 0.5 and found["weight_decay"] == 0.01 and found["steps"] == 5
    found, _ = run(data, Variant("static_swinbert"), extra=("trainer.accumulate_grad_batches=2",))
    assert [record["step"] for record in found["records"]] == [0, 2, 4, 5]


@pytest.mark.parametrize("variant", [Variant("static_logsigmoid"), Variant("static_swinbert", shift=8.0)], ids=str)
def test_both_gradients_add_up_to_the_training_steps_own(data, variant, monkeypatch):
    stepped, looked = [], []

    def on_after_backward(self, trainer, pl_module):
        net = mask_of(pl_module)
        stepped.append(net.table.grad[~net.own].clone())

    def noted(net, loss):
        looked.append(torch.autograd.grad(loss, net.table, retain_graph=True)[0][~net.own])
        return gradient(net, loss)

    monkeypatch.setattr(Probe, "on_after_backward", on_after_backward)
    monkeypatch.setattr(static_mask_training, "gradient", noted)
    run(data, variant, every=1, steps=3)
    assert len(stepped) == 3 and len(looked) == 2 * (3 + 1)
    for own, caption, sparsity in zip(stepped, looked[::2], looked[1::2], strict=False):
        assert own.norm() > 0 and caption.norm() > 0
        torch.testing.assert_close(caption + sparsity, own, rtol=1e-4, atol=1e-12)


@pytest.mark.slow
def test_training_does_not_notice_that_it_is_watched(data):
    dropout = ("task.dropout=0.1",)
    _, often = run(data, Variant("static_logsigmoid"), every=1, extra=dropout)
    _, once = run(data, Variant("static_logsigmoid"), every=100, extra=dropout)
    one, other = often.state_dict(), once.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_its_sparsity_loss_a_closed_table_only_decays(data):
    """AdamW with a gradient of exactly 0 multiplies by 1 - lr x decay at each step."""
    variant = Variant("static_swinbert", ("mask.sparsity=0", "task.schedule=constant", "task.warmup=0"))
    found, module = run(data, variant, steps=4)
    assert all(record["caption"]["nonzero"] == 0 for record in found["records"])
    _, start = run(data, Variant("static_swinbert", (*variant.changes, "task.weight_decay=0")), steps=1)
    expected = mask_of(start).table * (1 - found["lr"] * found["weight_decay"]) ** 4
    torch.testing.assert_close(mask_of(module).table, expected)


def test_the_shift_is_on_the_table_before_the_first_look(data):
    shifted, _ = run(data, Variant("static_swinbert", shift=10.0), steps=1)
    plain, _ = run(data, Variant("static_swinbert"), steps=1)
    one, other = (
        torch.tensor(found["records"][0]["sigmoid"]["1.0"], dtype=torch.float64).logit() for found in (shifted, plain)
    )
    assert one.item() == pytest.approx(other.item() + 10, abs=1e-4)
    assert awake(plain["records"]) == "never" and awake(shifted["records"]) == "always"


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([0.0, 0.0, 0.0], "never"),
        ([0.1, 0.2, 0.1], "always"),
        ([0.0, 0.1, 0.1], "from step 20"),
        ([0.1, 0.1, 0.0], "until step 40"),
        ([0.0, 0.1, 0.0], "from step 20, until step 40"),
    ],
)
def test_awake_says_from_when_to_when(shares, said):
    assert awake([{"step": 20 * i, "passes": share} for i, share in enumerate(shares)]) == said


@pytest.mark.parametrize(
    ("weight", "shown"), [(0.5, "0.50"), (0.26, "0.26"), (0.9781, "0.978"), (0.999954, "0.999954"), (1.0, "1.0000000")]
)
def test_digits_show_how_far_from_one(weight, shown):
    assert digits(weight) == shown


# -- the command and the page ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_command_brings_its_own_block_of_the_page_up_to_date(tmp_path, capsys):
    page, out = tmp_path / "docs" / "page.md", tmp_path / "results" / "small.json"
    page.parent.mkdir()
    page.write_text(
        "before\n<!-- init -->\nold\n<!-- /init -->\nbetween\n<!-- train -->\nkept\n<!-- /train -->\nafter\n"
    )
    main(["init", "--small", "--out", str(out), "--page", str(page)])
    text, result = page.read_text(), json.loads(out.read_text())
    assert "old" not in text and "kept" in text and text.startswith("before\n") and text.endswith("\nafter\n")
    assert block("init", result, "../results/small.png") in text
    assert static_mask_init.table(result) in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert result["command"].startswith("python -m scripts.studies.static_mask init --small --out ")


def test_training_writes_a_row_a_run_and_what_ifs_once(data, tmp_path):
    out = tmp_path / "train.json"
    given = ["--variants", "published", "published, t + 6", "--seeds", "3", "1", "--steps", "2", "--scale", "smoke"]
    main(["train", *given, "--out", str(out), "--set", f"paths.data_dir={data}/data", f"paths.log_dir={tmp_path}/logs"])
    result = json.loads(out.read_text())
    assert [(run["variant"], run["seed"]) for run in result["runs"]] == [
        ("published", 3),
        ("published", 1),
        ("published, t + 6", 3),
    ]
    table = static_mask_training.table(result)
    assert len(table.splitlines()) == 2 + 2 + 3
    assert table.startswith(
        "Awake: *published* never (2 runs; no gradient at 4 of 4 looks); *published, t + 6* always (1 run;"
    )
    assert out.with_suffix(".png").is_file()
    assert not (tmp_path / "logs").exists(), "no run leaves files"


@pytest.mark.parametrize("part", PARTS)
def test_the_committed_page_says_what_the_committed_json_says(part):
    text = (RESULTS / "static_mask.md").read_text(encoding="utf-8")
    inner = re.search(rf"<!-- {part} -->\n(.*?)\n<!-- /{part} -->", text, re.DOTALL)[1]
    path = RESULTS / f"static_mask_{part}.json"
    if path.is_file():
        assert inner == block(part, json.loads(path.read_text(encoding="utf-8")), f"static_mask_{part}.png")
    else:
        assert inner.startswith("**Not run yet.**") and str(path.relative_to(ROOT)) in inner


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["init", "--page", "page.md"], "give both"),
        (["init", "--out", "x.json", "--page", "nowhere.md"], "--page nowhere.md: .* No such file"),
        (["init", "--layers", "0"], "'0' is not a whole number of at least 1"),
        (["train", "--variants", "publishd"], "invalid choice: 'publishd'"),
        (["train", "--scale", "tiny"], "invalid choice: 'tiny'"),
        ([], "required: PART"),
    ],
)
def test_what_cannot_be_done_stops_with_what_is_allowed(given, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_setting_that_does_not_exist_stops_with_the_nearest_one(tmp_path):
    with pytest.raises(SystemExit, match="weight_decay"):
        main(["train", "--scale", "smoke", "--set", "task.weight_deca=0.2", f"paths.data_dir={tmp_path}"])


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="one pair of lines '<!-- init -->' and '<!-- /init -->'"):
        between_marks("no marks", "init", "")
