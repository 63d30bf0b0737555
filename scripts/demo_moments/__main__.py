"""A page to try a model of moments: choose or upload a video, type sentences, see where they happen.

    python -m scripts.demo_moments --checkpoint logs/.../checkpoints/last.ckpt --clip path/to/clip --videos videos/

Opens http://127.0.0.1:8765 on this machine alone, and needs no network: under the player, each sentence has a timeline
of its windows (a click plays one), the saliency of every clip, and the mask of the model between clips and words. The
checkpoint is of a model on CLIP's rows alone. Uploaded videos are kept in a temporary folder until the page is closed
with Ctrl-C. docs/moment_retrieval.md#a-page-to-try-it has a model to try it with, made in minutes.

It is plain HTML on Python's own server: one person asks on one machine, which needs no framework, and this page stays
openable as long as Python is.
"""

import sys
import tempfile
from pathlib import Path

from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.demo_moments.answering import Answering
from scripts.demo_moments.server import server
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.predictor import MomentPredictor


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("demo_moments", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a model on CLIP's rows alone")
    parser.add_argument("--clip", required=True, metavar="FOLDER_OR_NAME", help="the CLIP model of its training")
    parser.add_argument("--videos", type=Path, help="folder of video files to choose from; others can be uploaded")
    parser.add_argument("--port", type=int, default=8765, help="8765; 0: any that is free")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    chosen = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="moments-") as uploads:
            answering = Answering(MomentPredictor(chosen.checkpoint, chosen.clip, device=chosen.device))
            with server(answering, chosen.videos, Path(uploads), chosen.port) as opened:
                print(f"http://127.0.0.1:{opened.server_port}  (Ctrl-C ends it)", flush=True)
                opened.serve_forever()
    except KeyboardInterrupt:
        print()
    except (DataError, CheckpointError, ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
