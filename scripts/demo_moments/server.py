"""The page's server: its files, the videos with ranges (so that a player can seek), uploads and questions.

    with server(answering, Path("videos"), Path("/tmp/uploads"), port=8765) as opened:
        opened.serve_forever()

It listens on 127.0.0.1 and answers only a browser that was sent there: another Host, or a question from a page of
another origin, is refused. Names lead to no other folder.
"""

import json
import mimetypes
import os
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from datamodules.errors import DataError
from datamodules.formats.names import file_name
from datamodules.formats.video_files import ENDINGS, is_video
from scripts.demo_moments.answering import Answering
from tasks.common.errors import CheckpointError

PAGE = Path(__file__).with_name("page.html")
LARGEST, QUESTION = 4 * 2**30, 2**16  # bytes of an upload and of a question
PIECE = 2**20
CLOSED = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; media-src 'self'; "
    "img-src data:"
)


class Refused(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """One request. The server has `answering` and `folders`: where videos are, the uploads last."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.guarded(self.get)

    def do_PUT(self) -> None:
        self.guarded(self.put)

    def do_POST(self) -> None:
        self.guarded(self.post)

    def guarded(self, act) -> None:
        try:
            host = self.headers.get("Host", "")
            if host not in self.server.hosts or self.headers.get("Origin", f"http://{host}") != f"http://{host}":
                raise Refused(HTTPStatus.FORBIDDEN, "this page answers only to the browser on its own machine")
            act(unquote(urlsplit(self.path).path))
        except Refused as error:
            self.refuse(error.status, str(error))
        except (DataError, CheckpointError, ValueError) as error:
            self.refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (BrokenPipeError, ConnectionResetError):  # the player asked for another part of the video
            self.close_connection = True

    def refuse(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # a body may be unread
        self.send_json({"error": message}, status)

    def get(self, path: str) -> None:
        if path == "/":
            self.send(PAGE.read_bytes(), "text/html; charset=utf-8")
        elif path == "/videos":
            self.send_json(self.server.videos())
        elif path.startswith("/video/"):
            self.send_video(self.server.find(path.removeprefix("/video/")))
        else:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path}")

    def put(self, path: str) -> None:
        """An upload, kept when it is complete."""
        name, size = file_name(path.removeprefix("/video/"), "upload"), self.length(LARGEST)
        if not path.startswith("/video/") or not is_video(name):
            raise Refused(HTTPStatus.BAD_REQUEST, f"{name}: not the name of a video file ({', '.join(ENDINGS)})")
        draft = self.server.folders[-1] / f".{os.getpid()}-{id(self)}.partial"
        try:
            with draft.open("wb") as file:
                while size and (piece := self.rfile.read(min(size, PIECE))):
                    file.write(piece)
                    size -= len(piece)
            if size:
                raise Refused(HTTPStatus.BAD_REQUEST, f"{name}: the upload ended {size} bytes early")
            draft.replace(self.server.folders[-1] / name)
        finally:
            draft.unlink(missing_ok=True)
        self.send_json({"video": name})

    def post(self, path: str) -> None:
        if path != "/ask":
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path}")
        asked = json.loads(self.rfile.read(self.length(QUESTION)))
        if not isinstance(asked, dict) or not isinstance(asked.get("queries"), list):
            raise Refused(HTTPStatus.BAD_REQUEST, "a question is an object with video and queries")
        self.send_json(self.server.answering.answer(self.server.find(str(asked.get("video"))), asked["queries"]))

    def length(self, most: int) -> int:
        told = self.headers.get("Content-Length", "")
        if not told.isdigit() or not 0 < int(told) <= most:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"1 to {most} bytes can be sent, not {told or 'none'}")
        return int(told)

    def send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", CLOSED)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send(json.dumps(value).encode(), "application/json", status)

    def send_video(self, path: Path) -> None:
        """The file, or the part that a player asks for."""
        size, start, status = path.stat().st_size, 0, HTTPStatus.OK
        end = size - 1
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or end), end)
            status = HTTPStatus.PARTIAL_CONTENT
            if start > end:
                raise Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"{path.name} has {size} bytes")
        self.send_response(status)
        self.send_header("Content-Type", mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start + 1))
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            left = end - start + 1
            while left and (piece := file.read(min(left, PIECE))):
                self.wfile.write(piece)
                left -= len(piece)

    def log_message(self, *_: Any) -> None:
        """Requests are not printed."""


class MomentServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answering: Answering, folders: list[Path], port: int):
        super().__init__(("127.0.0.1", port), Handler)
        self.answering, self.folders = answering, folders
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    def videos(self) -> list[str]:
        """Names of the videos, those of the folder first."""
        found = [sorted(path.name for path in folder.iterdir() if is_video(path)) for folder in self.folders]
        return list(dict.fromkeys(name for names in found for name in names if name[0] != "."))

    def find(self, name: str) -> Path:
        """The newest of this name. Refused: none, or a name that leads to another folder."""
        file_name(name, "video")
        for folder in reversed(self.folders):
            if name in self.videos() and (folder / name).is_file():
                return folder / name
        raise Refused(HTTPStatus.NOT_FOUND, f"there is no video {name}")


def server(answering: Answering, videos: Path | None, uploads: Path, port: int) -> MomentServer:
    """port: 0 takes a free one. Raises DataError: no such folder of videos; OSError: the port is taken."""
    if videos is not None and not videos.is_dir():
        raise DataError(f"--videos {videos}: not a folder.")
    return MomentServer(answering, [*([videos] if videos else []), uploads], port)
