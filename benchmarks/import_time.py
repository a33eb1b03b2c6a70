"""How long `import rotina` and `rotina --help` take, beside importing pydantic and Celery's help.

The goals are absolute: 0.3 s for the import and 0.6 s for the help, with the start of Python in
both. The ratio says the same on a slower machine: `import rotina` against `import pydantic`, which
is among the first things any program built on Rotina loads.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPEATS = 15
PYTHON = [sys.executable]
BIN = Path(sys.executable).parent
COMMANDS: dict[str, Sequence[str]] = {
    "python": [*PYTHON, "-c", "pass"],
    "import rotina": [*PYTHON, "-c", "import rotina"],
    "import pydantic": [*PYTHON, "-c", "from pydantic import BaseModel"],
    "rotina --help": [str(BIN / "rotina"), "--help"],
    "celery --help": [str(BIN / "celery"), "--help"],
}


def _seconds(command: Sequence[str], folder: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def measure() -> dict[str, float]:
    """Median seconds of each command; they take turns, so that a busy moment hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS.values():
            _seconds(command, folder)
        for _ in range(REPEATS):
            for name, command in COMMANDS.items():
                taken[name].append(_seconds(command, folder))
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Print a table and the JSON line."""
    medians = measure()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:.3f} s")
    result = {
        "name": "import_time",
        "ratio": round(medians["import rotina"] / medians["import pydantic"], 3),
        "goal": "import rotina <= 0.3 s, rotina --help <= 0.6 s",
        "peer": "import pydantic",
        "details": {name: round(seconds, 4) for name, seconds in medians.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
