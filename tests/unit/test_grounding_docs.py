"""The reference page: its examples run, and it names the whole interface."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from rotina import grounding

PAGE = (Path(__file__).parents[2] / "docs/reference/grounding.md").read_text(encoding="utf-8")


def test_the_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 4
    namespace: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "grounding.md", "exec"), namespace)


def test_the_page_names_the_whole_interface() -> None:
    named = set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE))
    assert named == set(grounding.__all__)
    row = next(line for line in PAGE.splitlines() if line.startswith("| `Method`"))
    assert set(re.findall(r"`(\w+)`", row)) - {"Method"} == set(get_args(grounding.Method))


def test_importing_does_not_load_babel() -> None:
    code = "import sys, rotina.grounding; print([m for m in sys.modules if m.startswith('babel')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
