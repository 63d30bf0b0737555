"""The benchmark's re-statement is the same model and loss; every combination runs; wrong sizes are refused."""

import json

import pytest
import torch

from scripts.benchmark import main
from scripts.benchmarks.qd_detr import MODELS
from scripts.benchmarks.qd_detr_plain import PlainQDDETR, plain_loss
from tasks.moment_retrieval.losses import MomentLosses
from tasks.moment_retrieval.upstream import qd_detr_from_upstream, translated

SIZES = (
    "--batch 3 --clips 7 --tokens 5 --slowfast 11 --clip 5 --text 6 --width 32 --feedforward 48 --queries 3 --depth 2"
)


def example() -> tuple[dict, dict]:
    """Inputs with padding, and their batch of targets."""
    torch.manual_seed(1)
    video_keep = torch.arange(7) < torch.tensor([6, 7, 3])[:, None]
    text_keep = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    inputs = {"video": torch.randn(3, 7, 22) * video_keep[..., None], "video_keep": video_keep}
    inputs |= {"text": torch.randn(3, 5, 13) * text_keep[..., None], "text_keep": text_keep}
    batch = {"spans": [torch.rand(number, 2) * 0.3 + 0.2 for number in (1, 3, 2)], "video_keep": video_keep}
    batch["saliency"] = torch.randint(0, 13, (3, 7)).float() * video_keep
    batch["saliency"][1] = 0  # a sample without any relevant clip
    batch |= {"saliency_pos": torch.randint(0, 3, (3, 2)), "saliency_neg": torch.randint(0, 3, (3, 2))}
    return inputs, batch


def test_the_plain_model_with_our_weights_has_our_outputs_loss_and_gradients():
    torch.manual_seed(0)
    plain = PlainQDDETR(22, 13, width=64, feedforward=96, queries=5).eval()
    ours = qd_detr_from_upstream(plain.state_dict())
    inputs, batch = example()
    expected, found = ours(**inputs), plain(**inputs)
    for name in ("logits", "spans"):
        assert torch.allclose(found[name], expected[name], atol=1e-5)
        assert torch.allclose(found["aux"][0][name], expected["aux"][0][name], atol=1e-5)
    real = inputs["video_keep"]
    for name in ("saliency", "saliency_negative"):
        assert torch.allclose(found[name][real], expected[name][real], atol=1e-5)

    total, of_ours = plain_loss(found, batch), MomentLosses()(expected, batch)[0]
    assert total.item() == pytest.approx(of_ours.item(), rel=1e-5)
    total.backward()
    of_ours.backward()
    gradients = translated({name: parameter.grad for name, parameter in plain.named_parameters()})
    for name, parameter in ours.named_parameters():
        largest = parameter.grad.abs().max()
        assert (gradients[name] - parameter.grad).abs().max() <= 1e-3 * largest + 1e-4, name


@pytest.mark.slow
def test_every_model_is_timed_and_written(tmp_path, capsys):
    out = tmp_path / "new" / "result.json"
    main(["qd_detr", *SIZES.split(), "--repeats", "1", "--batches", "2", "--out", str(out)])
    result, said = json.loads(out.read_text()), capsys.readouterr().out
    assert [row["model"] for row in result["rows"]] == list(MODELS)
    plain = result["rows"][0]["step"]
    for row in result["rows"]:
        assert min(row[part] for part in ("forward", "backward", "optimiser")) > 0
        assert row["step"] == pytest.approx(row["forward"] + row["backward"] + row["optimiser"])  # one repeat
        assert row["of_plain"] == pytest.approx(row["step"] / plain)
        assert f"{row['model']} " in said
    assert [row["files"] for row in result["loading"]] == ["npz", "packed"]
    assert all(row["seconds"] > 0 for row in result["loading"])
    assert (result["settings"]["width"], result["settings"]["clock"], result["threads"]) == (32, "wall", 1)


def test_without_plain_there_is_no_ratio(tmp_path):
    out = tmp_path / "result.json"
    main(["qd_detr", *SIZES.split(), "--models", "none", "--clock", "cpu", "--repeats", "1", "--out", str(out)])
    result = json.loads(out.read_text())
    assert [row["of_plain"] for row in result["rows"]] == [None] and result["settings"]["clock"] == "cpu"


@pytest.mark.parametrize(
    "options, message",
    [
        ("--batch 1", "--batch 1: a wrong text comes from another sample"),
        ("--clips 1", "--clips 1: saliency compares clips"),
        ("--width 48", "--width 48: heads have 32 features; give a multiple of 32"),
        ("--repeats 0", "'0' is not a whole number of at least 1"),
        ("--models nnoe", "invalid choice: 'nnoe'"),
        ("--device cuda --clock cpu", "use --clock wall"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["qd_detr", *options.split()])
    assert stop.value.code == 2 and message in capsys.readouterr().err
