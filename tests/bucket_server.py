"""A real server of S3's protocol in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.scripted_model import unused_port

READER = {
    "AWS_ACCESS_KEY_ID": "reader",
    "AWS_SECRET_ACCESS_KEY": "of-papers",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The environment of who may read."""
STARTED_SECONDS = 20.0


@contextmanager
def bucket_server(root: Path) -> Iterator[tuple[str, Path]]:
    """Its URL, and the folder below `root` that is its bucket `papers`."""
    port = unused_port()
    (root / "papers").mkdir(parents=True)
    rclone = Path(sys.executable).with_name("rclone")
    credentials = f"{READER['AWS_ACCESS_KEY_ID']},{READER['AWS_SECRET_ACCESS_KEY']}"
    served = [str(rclone), "serve", "s3", "--auth-key", credentials]
    served += ["--config", "", "--dir-cache-time", "0", "--addr", f"127.0.0.1:{port}", str(root)]
    with started(served, port):
        yield f"http://127.0.0.1:{port}", root / "papers"


@contextmanager
def started(command: list[str], port: int) -> Iterator[None]:
    """A process that listens on the port of this machine when the block begins."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + STARTED_SECONDS
            while time.monotonic() < until:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield
        finally:
            process.kill()
