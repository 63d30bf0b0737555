"""A real offline sweep at scale=smoke: what W&B got of it, and the dashboard that is built from it.

Nothing here talks to W&B: its base URL is a server of the test's own, which counts what it is asked.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.dashboard.check import NotReadable, logged, missing, named
from scripts.dashboard.command import main
from scripts.dashboard.content import Content, content
from scripts.sweep_runs import Run, found
from tests.offline import records_of
from tests.programs import started

pytest.importorskip("wandb_workspaces", reason="the extra `dashboard`")

SWEEP = "table1bc"
WORDS = ("experiment=qvhighlights_lcaam", "seed=3", "mask.depth=2", "trainer.max_steps=4")


class Server(ThreadingHTTPServer):
    """A stand-in for W&B's server: it keeps what it is asked, and knows as much as saving a view needs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.views: list[dict] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, query: str, variables: dict) -> dict:
        project = {"id": "1", "internalId": "1", "name": "lcaam", "entityName": "me"}
        if "upsertView" in query:
            self.views.append(variables)
            view = {"id": "Vmlldzox", "name": variables["name"], "displayName": variables["displayName"]}
            view |= {"description": "", "project": project, "spec": variables["spec"]}
            return {"upsertView": {"view": view, "inserted": True}}
        if "internalId" in query:
            return {"project": project}
        if "models(" in query:  # the projects of an entity
            page = {"endCursor": None, "hasNextPage": False}
            return {
                "models": {
                    "edges": [{"node": project | {"createdAt": "", "isBenchmark": False, "user": None}}],
                    "pageInfo": page,
                }
            }
        teams = {"edges": [{"node": {"name": "me"}}]}
        return {"viewer": {"id": "1", "username": "me", "entity": "me", "email": "", "flags": "{}", "teams": teams}}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        given = json.loads(body) if self.path == "/graphql" else {}
        answer = self.server.answer(given.get("query", ""), given.get("variables") or {})
        text = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Says nothing on the screen."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, generated: Path, server: Server) -> Path:
    """One run; its user has no settings, no key, and a server that would notice a question."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "home").mkdir()
    fonts = {"MPLCONFIGDIR": f"{folder}/fonts"}  # matplotlib's list of fonts is none of W&B's files
    places = (f"paths.log_dir={folder}/logs", f"paths.data_dir={generated}")
    nobody = {"HOME": f"{folder}/home", "WANDB_BASE_URL": server.url, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = started("train.py", f"sweep={SWEEP}", *WORDS, "scale=smoke", "logger=many", *places, **nobody, **fonts)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "qvhighlights_lcaam mask.depth=2 trainer.max_steps=4, scale" in " ".join(done.stdout.split())
    assert not list((folder / "home").rglob("*.json")), "W&B keeps what it will upload in the run's folder"
    return folder / "logs"


@pytest.fixture(scope="module")
def runs(logs: Path) -> list[Run]:
    return found(SWEEP, logs)


@pytest.fixture(scope="module")
def made(runs: list[Run]) -> Content:
    return content(SWEEP, runs)


@pytest.fixture(scope="module")
def readable(runs: list[Run]) -> None:
    """Skips if this wandb cannot show what it has written."""
    try:
        logged(runs)
    except NotReadable as error:
        if "which came with 0.31" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def records(runs: list[Run]) -> list[dict]:
    """What the offline file of the run with a mask holds."""
    (run,) = [run for run in runs if run.record["experiment"] == "qvhighlights_lcaam"]
    (part,) = run.folder.glob(f"wandb/offline-run-*-{run.record['wandb']}")
    return records_of(part)


def of_kind(records: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in records if kind in record]


# -- what W&B got -----------------------------------------------------------------------------------------------------


def test_an_offline_run_asks_no_server_anything(logs: Path, server: Server) -> None:
    assert logs.is_dir() and server.asked == []


def test_the_group_is_the_setting_and_the_name_adds_the_seed(runs: list[Run], records: list[dict]) -> None:
    groups = {run.record["experiment"]: run.record["group"] for run in runs}
    assert groups["qvhighlights_lcaam"].startswith("qvhighlights_lcaam-smoke-max_steps_4-")  # the depth is the scale's
    run = of_kind(records, "run")[0]
    assert run["run_group"] == groups["qvhighlights_lcaam"] and run["display_name"] == f"{run['run_group']}-s3"
    assert (run["job_type"], run["tags"]) == ("train", ["smoke", "QVHighlights"])


def test_settings_are_nested_and_say_where_the_run_belongs(runs: list[Run], records: list[dict], logs: Path) -> None:
    config = next(record["update"] for record in of_kind(records, "config") if "mask" in record["update"])
    assert (config["mask"]["depth"], config["mask"]["scope"], config["seed"]) == (2, "shared", 3)
    assert config["sweep"] == SWEEP and (logs / "multirun" / config["multirun"]).is_dir()
    (run,) = [run for run in runs if run.record["group"].endswith(config["config_id"][:8])]
    assert config["identity"] == run.record["identity"] and config["git"] == run.record["git"]
    noise = {"paths", "logger", "callbacks.checkpoint", "command", "resume", "paper"}
    assert not noise & config.keys() and "." not in "".join(config)
    assert str(logs) not in json.dumps(config), "a folder of this machine"
    assert any("python train.py experiment=qvhighlights_lcaam" in r.get("notes", "") for r in of_kind(records, "run"))


def test_metrics_have_names_to_filter_by_and_the_best_value(runs: list[Run], records: list[dict]) -> None:
    metrics = {metric["name"]: metric["summary"] for metric in of_kind(records, "metric") if "summary" in metric}
    assert metrics["val/mAP_at_0_5"] == {"max": True, "last": True} and metrics["val/loss"] == {
        "min": True,
        "last": True,
    }
    history = {key for record in of_kind(records, "history") for key in record["item"]}
    assert {"val/R1_at_0_5", "test/HD_mAP", "train/loss_step", "trainer/global_step"} <= history
    summary = {key: value for record in of_kind(records, "summary") for key, value in record["update"].items()}
    (record,) = [run.record for run in runs if run.record["experiment"] == "qvhighlights_lcaam"]
    assert summary["test/R1_at_0_5"] == pytest.approx(record["metrics"]["R1@0.5"])
    assert summary["floors/constant/mAP"] == record["floors"]["constant"]["mAP"]
    assert summary["parameters/total"] == sum(record["parameters"].values())
    assert summary["seconds/fit"] == record["seconds"]["fit"]
    assert summary["val/loss"].keys() == {"last", "min"}


def test_the_record_and_the_first_predictions_are_handed_over(runs: list[Run], records: list[dict]) -> None:
    (run,) = [run for run in runs if run.record["experiment"] == "qvhighlights_lcaam"]
    (artifact,) = [artifact for artifact in of_kind(records, "artifact") if artifact["type"] == "results"]
    (entry,) = artifact["manifest"]["contents"]
    assert json.loads(Path(entry["local_path"]).read_text())["status"] == "completed"
    (path,) = run.folder.glob("wandb/offline-run-*/files/media/table/predictions/*.json")
    table = json.loads(path.read_text())
    rows = (run.folder / "predictions" / "test.jsonl").read_text().splitlines()
    assert table["columns"] == ["input", "prediction", "truth"] and len(table["data"]) == len(rows)
    assert json.loads(rows[0])["query"] in table["data"][0][0]


# -- the dashboard ----------------------------------------------------------------------------------------------------


def test_the_content_is_that_of_the_runs(made: Content, runs: list[Run]) -> None:
    assert (made.scale, made.seeds, len(made.groups)) == ("smoke", [3], 1)
    (task,) = made.tasks
    assert task.name == "moment_retrieval" and "R1@0.5" in task.scores and "val/loss" in task.curves
    assert task.references["mAP"] == ["floors/constant", "floors/ceiling", "floors/input_blind"]
    assert "figures/mask_layer_1" in task.figures  # of the setting with a mask
    assert task.analysis["sign_flips"] == ["layer 1", "layer 2"]


@pytest.mark.usefixtures("readable")
def test_every_key_of_workspace_and_report_was_logged_by_a_run(made: Content, runs: list[Run]) -> None:
    from scripts.dashboard.views import as_json, report, workspace

    for view in (workspace(made, "lcaam"), report(made, "lcaam")):
        number, lacking = missing(as_json(view), runs)
        assert lacking == [] and number > 20
    keys = named(as_json(workspace(made, "lcaam")))
    assert {("run", "group"), ("metric", "val/loss"), ("metric", "figures/mask_layer_1")} <= keys
    assert {("metric", "floors/ceiling/mAP"), ("metric", "trainer/global_step")} <= keys


@pytest.mark.usefixtures("readable")
def test_a_key_that_no_run_logged_is_found(made: Content, runs: list[Run]) -> None:
    from scripts.dashboard.panels import bars, curve
    from scripts.dashboard.views import as_json, workspace

    view = workspace(made, "lcaam")
    view.sections[0].panels += [curve("val/R1@0.9", "minmax"), bars("x", ["paper/mAP"], "minmax")]
    view.sections[0].panels[-1].groupby = "config.mask.deep"
    lacking = missing(as_json(view), runs)[1]
    assert lacking == [("config", "mask.deep"), ("metric", "paper/mAP"), ("metric", "val/R1_at_0_9")]


def test_panels_have_seed_bands_and_the_runs_are_those_of_the_sweep(made: Content) -> None:
    from scripts.dashboard.views import as_json, workspace

    section = as_json(workspace(made, "lcaam", band="stddev"))["spec"]["section"]
    (runset,) = section["runSets"]
    (condition,) = runset["filters"]["filters"]
    assert condition["key"] == {"section": "run", "name": "group"} and condition["value"] == made.groups
    panels = {part["name"]: part["panels"] for part in section["panelBankConfig"]["sections"]}
    assert list(panels) == ["Runs", "Test", "Validation", "Training", "Masks", "Cost"]
    titles = [panel["config"]["chartTitle"] for panel in panels["Validation"]]
    assert titles[:3] == ["val/loss", "val/R1@0.5", "val/R1@0.7"] and set(titles[-2:]) <= {"val/saliency", "val/span"}
    for panel in panels["Validation"]:
        config = panel["config"]
        assert (config["groupBy"], config["groupAgg"], config["groupArea"]) == ("group", "mean", "stddev")
        assert config["xAxis"] == "trainer/global_step"
    assert panels["Runs"][1]["viewType"] == "Run Comparer" and panels["Runs"][1]["config"] == {"diffOnly": True}
    assert any(panel["viewType"] == "Media Browser" for panel in panels["Masks"])


@pytest.mark.usefixtures("readable")
def test_the_dry_run_needs_no_server(
    logs: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    before = len(server.asked)
    (multirun,) = (logs / "multirun").iterdir()
    for sweep in (SWEEP, str(multirun)):
        assert main([sweep, "--dry-run", "--logs", str(logs), "--out", str(tmp_path / "d.json")]) == 0
        assert "1 groups" in (said := capsys.readouterr().err) and "0 of them not logged" in said
    views = json.loads((tmp_path / "d.json").read_text())
    assert views["workspace"]["project"] == "lcaam" and views["report"]["displayName"] == f"{SWEEP} (smoke)"
    assert len(server.asked) == before


def test_a_push_sends_what_the_dry_run_shows(
    logs: Path, server: Server, made: Content, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library has no public way to its JSON; this holds the private one that --dry-run uses."""
    from scripts.dashboard.views import as_json, report, workspace

    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert main([SWEEP, "--push", "--logs", str(logs)]) == 0, capsys.readouterr().err
    sent = [json.loads(view["spec"]) for view in server.views]
    shown = [as_json(view)["spec"] for view in (workspace(made, "lcaam"), report(made, "lcaam"))]
    assert len(sent) == len(shown) == 2
    for mine, theirs in zip(shown, sent, strict=True):
        assert named(mine) == named(theirs) and alike(mine) == alike(theirs)
    assert {view["entityName"] for view in server.views} == {"me"} and "lcaam" in capsys.readouterr().out


def alike(spec: object) -> object:
    """Without the numbers that the library draws, and the project that only a server knows."""
    if isinstance(spec, dict):
        return {key: alike(value) for key, value in spec.items() if key not in ("__id__", "id", "project")}
    return [alike(item) for item in spec] if isinstance(spec, list) else spec


def test_a_push_without_a_key_says_what_to_do(
    logs: Path, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    assert main([SWEEP, "--push", "--logs", str(logs)]) == 1
    assert "wandb login" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["tabel1bc"], "tabel1bc: neither a folder nor a sweep; did you mean 'table1bc'?"),
        (["table5"], "table5: no multirun of this sweep below"),
        ([SWEEP, "--scale", "mini"], "no run at scale mini; there are smoke"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(logs: Path, capsys: pytest.CaptureFixture, words, problem) -> None:
    assert main([*words, "--dry-run", "--logs", str(logs)]) == 1
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1


def test_runs_without_their_offline_files_cannot_be_compared(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="no offline files"):
        logged([Run(tmp_path, run.record) for run in runs])


def test_several_scales_are_not_put_together(runs: list[Run]) -> None:
    other = Run(runs[0].folder, runs[0].record | {"scale": "mini"})
    with pytest.raises(ValueError, match="choose one with --scale: smoke, mini"):
        content(SWEEP, [*runs, other])
    assert content(SWEEP, [*runs, other], "mini").groups == [runs[0].record["group"]]
    named = [Run(run.folder, run.record | {"group": "depth=4"}) for run in runs]
    with pytest.raises(ValueError, match="group 'depth=4': W&B's library cannot filter by a name with '='"):
        content(SWEEP, named)
    silent = [Run(run.folder, run.record | {"wandb": None}) for run in runs]
    with pytest.raises(ValueError, match="none logged to W&B"):
        content(SWEEP, silent)
