"""The neighbours that the gateway is measured beside, installed into the user's cache folder.

`requirements.txt` is compiled from `requirements.in`, and `vectorstore.txt` from `vectorstore.in`;
`embedding.txt` is what pip makes of `embedding.in`.
`package.json` holds the HTTP server under
Portkey at the version of Portkey's own lock file: with the later one that npm would choose, every
stream is a 500 (Portkey-AI/gateway issue 1389).
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from rotina.embedded.weights import cache_folder

PACKAGES = Path(__file__).parent / "package.json"


def python(kind: str = "requirements", *, pip: bool = False) -> Path | None:
    """An interpreter that has the Python peers of `KIND.txt`; None, said aloud, without them.

    With `pip` it is pip that looks for them, where its own settings say: torch has many places.
    """
    wanted = Path(__file__).parent / f"{kind}.txt"
    folder = _folder("peers", wanted)
    found = folder / "bin" / "python"
    if (folder / ".ready").exists():
        return found
    uv = str(Path(sys.executable).parent / "uv")
    print(f"installing the peers into {folder} …", flush=True)
    try:
        # What an attempt that was broken off has left is made anew.
        subprocess.run(
            [uv, "venv", "-q", "--clear", "--seed", "--python", sys.executable, folder], check=True
        )
        install = [str(found), "-m", "pip", "install"]
        if not pip:
            install = [uv, "pip", "install", "--python", str(found)]
        subprocess.run([*install, "-q", "-r", wanted], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the Python peers are missing: {error}")
        return None
    (folder / ".ready").touch()
    return found


def portkey() -> list[str] | None:
    """The command of Portkey's gateway without its port; None, said aloud, where there is none."""
    folder = _folder("portkey", PACKAGES)
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        print("Portkey is missing: it needs node and npm")
        return None
    if not (folder / ".ready").exists():
        print(f"installing Portkey into {folder} …", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGES, folder)
        done = subprocess.run([npm, "install", "--silent", "--prefix", folder], check=False)
        if done.returncode:
            print("Portkey is missing: npm could not install it")
            return None
        (folder / ".ready").touch()
    program = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return [node, str(program)]


def _folder(name: str, wanted: Path) -> Path:
    """Where what the file wants is installed: another file, another folder."""
    return cache_folder() / f"{name}-{hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]}"
