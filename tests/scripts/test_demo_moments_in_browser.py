"""The page that asks a video for moments: in headless Chromium, and its server's answers to what no browser sends."""

import json
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest

from datamodules.errors import DataError
from scripts.demo_moments.answering import SHOWN, Answering
from scripts.demo_moments.server import server
from tasks.moment_retrieval.predictor import MomentPredictor
from tests.datamodules.video_captioning.small import footage, write_video
from tests.tasks.moment_retrieval.small_clip import WIDTH, write_checkpoint, write_clip

QUERIES = ("a dog runs", "<b>a red seven</b>")
SECONDS = {"one.mp4": 14, "two words.mp4": 62}  # 7 and 31 clips, of which the model reads 12 at once


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with clip/, model.ckpt, videos/ and uploads/."""
    folder = tmp_path_factory.mktemp("demo")
    write_clip(folder / "clip")
    write_checkpoint(folder / "model.ckpt")
    for name in ("videos", "uploads"):
        (folder / name).mkdir()
    for name, seconds in SECONDS.items():
        write_video(folder / "videos" / name, footage(1, frames=2 * seconds, height=48, width=64), rate=2)
    return folder


@pytest.fixture(scope="module")
def answering(place) -> Answering:
    return Answering(MomentPredictor(place / "model.ckpt", place / "clip"))


@pytest.fixture(scope="module")
def opened(place, answering):
    with server(answering, place / "videos", place / "uploads", 0) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(opened, method: str, path: str, body: bytes | None = None, **headers) -> tuple[int, bytes, dict]:
    connection = HTTPConnection("127.0.0.1", opened.server_port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())
    finally:
        connection.close()


# -- in the browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(browser, opened):
    page = browser.new_page(viewport={"width": 1000, "height": 1200})
    page.complaints, page.asked = [], []
    page.on("console", lambda message: page.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(f"http://127.0.0.1:{opened.server_port}/")
    page.wait_for_selector("#video option", state="attached")
    yield page
    page.close()


def player(page, name: str):
    return page.evaluate(f"document.getElementById('player').{name}")


def until(page, holds) -> None:
    """Waits until it holds; the page's policy forbids the browser to evaluate a condition itself."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen within 10 s")


def find(page, video: str, *queries: str) -> None:
    page.select_option("#video", video)
    page.fill("#queries", "\n".join(queries))
    page.click("#ask")
    page.wait_for_selector(".answer, #error:not(:empty)")


@pytest.mark.parametrize("video", SECONDS)
def test_a_video_is_chosen_and_asked_and_shows_its_moments(page, answering, place, video) -> None:
    find(page, video, *QUERIES)
    expected = answering.answer(place / "videos" / video, QUERIES)
    assert page.locator(".answer h2").all_inner_texts() == list(QUERIES)  # as text, not as markup
    for number, answer in enumerate(expected["answers"]):
        part = page.locator(".answer").nth(number)
        bars = part.locator(".window")
        found = [(float(bars.nth(i).get_attribute("data-start")), float(bars.nth(i).get_attribute("data-end")))
                 for i in range(bars.count())]  # fmt: skip
        assert found == [(start, end) for start, end, _ in answer["windows"]] and 1 <= len(found) <= SHOWN
        assert part.locator("ol li").count() == len(found)
        outline = part.locator(".curve").get_attribute("d")
        assert outline.count(",") == 2 * len(answer["saliency"]) == 2 * ((SECONDS[video] + 1) // 2)
        (layer,) = answer["masks"]
        assert part.locator("summary").inner_text() == f"mask of {layer}: words x clips"
        assert part.locator(".heat span").all_inner_texts() == answer["words"]
        colours = "(canvas) => new Set([...canvas.getContext('2d').getImageData(0, 0, canvas.width, 1).data]).size"
        assert part.locator(".heat canvas").first.evaluate("(canvas) => canvas.width") == len(answer["saliency"])
        assert max(part.locator(".heat canvas").nth(i).evaluate(colours) for i in range(len(answer["words"]))) > 3
    assert page.complaints == []
    assert all(url.startswith((page.url, "data:")) for url in page.asked)  # nothing from elsewhere


def test_a_click_on_a_window_plays_from_its_start(page) -> None:
    find(page, "two words.mp4", *QUERIES)
    until(page, lambda: player(page, "readyState") >= 1)
    assert player(page, "duration") == pytest.approx(62, abs=0.6)
    bars = page.locator(".window")
    starts = [float(bars.nth(i).get_attribute("data-start")) for i in range(bars.count())]
    latest = max(range(len(starts)), key=starts.__getitem__)
    bars.nth(latest).dispatch_event("click")
    until(page, lambda: abs(player(page, "currentTime") - starts[latest]) < 3)
    assert starts[latest] > 3


def test_an_uploaded_video_can_be_asked(page, place, tmp_path) -> None:
    write_video(tmp_path / "mine.mp4", footage(2, frames=20, height=48, width=64), rate=2)
    page.set_input_files("#upload", tmp_path / "mine.mp4")
    until(page, lambda: page.evaluate("document.getElementById('video').value") == "mine.mp4")
    assert (place / "uploads/mine.mp4").read_bytes() == (tmp_path / "mine.mp4").read_bytes()
    find(page, "mine.mp4", "a dog runs")
    assert page.locator(".answer").count() == 1


def test_what_goes_wrong_is_said_on_the_page(page, place) -> None:
    (place / "uploads/broken.mp4").write_bytes(b"nothing")
    page.reload()
    page.wait_for_selector("#video option[value='broken.mp4']", state="attached")
    find(page, "broken.mp4", "a dog runs")
    assert "cannot be decoded" in page.locator("#error").inner_text()
    (place / "uploads/broken.mp4").unlink()


# -- without one ------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_as_the_predictor_answers_it(opened, answering, place) -> None:
    body = json.dumps({"video": "one.mp4", "queries": ["a dog runs"]}).encode()
    status, found, _ = ask(opened, "POST", "/ask", body)
    found = json.loads(found)
    (answer,) = found["answers"]
    predictor = MomentPredictor(place / "model.ckpt", place / "clip")
    (expected,) = predictor.predict(place / "videos/one.mp4", "a dog runs", windows=SHOWN, overlap=0.5)
    assert (status, found["duration"], found["clip_length"]) == (200, 14.0, 2.0)
    assert {name: answer[name] for name in ("windows", "saliency")} == expected
    assert answer["words"][0] == "start" and answer["words"][-1] == "end"
    for mask in answer["masks"].values():
        assert len(mask) == 7 and {len(row) for row in mask} == {len(answer["words"])}


def test_a_player_gets_the_part_it_asks_for(opened, place) -> None:
    content = (place / "videos/one.mp4").read_bytes()
    for asked, part in (("bytes=5-9", content[5:10]), ("bytes=100-", content[100:]), ("bytes=0-9999999", content)):
        status, found, headers = ask(opened, "GET", "/video/one.mp4", Range=asked)
        assert (status, found) == (206, part)
        assert headers["Content-Range"].endswith(f"/{len(content)}")
    assert ask(opened, "GET", "/video/one.mp4")[:2] == (200, content)
    assert ask(opened, "GET", "/video/one.mp4", Range="bytes=9999999-")[0] == 416


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("GET", "/video/..%2F..%2Fmodel.ckpt", None, {}, 400, "path separator"),
        ("GET", "/video/model.ckpt", None, {}, 404, "no video"),
        ("GET", "/else", None, {}, 404, "there is no /else"),
        ("GET", "/videos", None, {"Host": "evil.example"}, 403, "only to the browser on its own machine"),
        ("POST", "/ask", b"{}", {"Origin": "http://evil.example"}, 403, "only to the browser"),
        ("POST", "/ask", b"[]", {}, 400, "an object with video and queries"),
        ("POST", "/ask", b"nothing", {}, 400, "Expecting value"),
        ("POST", "/ask", b'{"video": "none.mp4", "queries": ["a"]}', {}, 404, "no video none.mp4"),
        ("POST", "/ask", b'{"video": "one.mp4", "queries": []}', {}, 400, "0 queries: 1 to 12"),
        ("POST", "/ask", b'{"video": "one.mp4", "queries": [3]}', {}, 400, "1 queries: 1 to 12 sentences"),
        ("POST", "/ask", b'{"video": "one.mp4", "queries": [" "]}', {}, 400, "no word in it"),
        ("POST", "/ask", b"x" * (2**16 + 1), {}, 413, "1 to 65536 bytes"),
        ("PUT", "/video/..%2Fx.mp4", b"x", {}, 400, "path separator"),
        ("PUT", "/video/x.exe", b"x", {}, 400, "not the name of a video file"),
        ("PUT", "/video/x.mp4", b"", {}, 413, "bytes can be sent"),
    ],
)
def test_what_no_page_asks_is_refused(opened, place, method, path, body, headers, status, message) -> None:
    before = sorted((place / "uploads").iterdir())
    found, content, _ = ask(opened, method, path, body, **headers)
    assert (found, message in json.loads(content)["error"]) == (status, True), content
    assert sorted((place / "uploads").iterdir()) == before


def test_a_model_of_other_streams_and_a_folder_that_is_not_there_are_refused(place, answering, tmp_path) -> None:
    changes = {"video_dim": WIDTH + 7 + 2, "streams": {"slow": 7, "clip_features": WIDTH}}
    two = MomentPredictor(write_checkpoint(tmp_path / "two.ckpt", **changes), place / "clip")
    with pytest.raises(DataError, match="by CLIP alone, but the model was trained on other streams: slow, clip_feat"):
        Answering(two)
    with pytest.raises(DataError, match="not a folder"):
        server(answering, tmp_path / "none", place / "uploads", 0)
