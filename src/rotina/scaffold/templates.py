"""The files of a new project that are not copied: `string.Template` texts by path."""

from string import Template

PYPROJECT = Template("""\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["rotina[embedded]>=$version"]

[dependency-groups]
dev = ["pytest>=8.4", "pytest-asyncio>=1.1"]

[tool.hatch.build.targets.wheel]
packages = ["$package"]

[tool.rotina]
app = "$package.workers.app"
workflows = ["$package.workflows"]
migrations = ["$package/workflows/migrations"]

[tool.pytest.ini_options]
testpaths = ["$package"]
pythonpath = ["."]
addopts = "--import-mode=importlib"
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
""")

README = Template("""\
# $name

A [Rotina](https://pypi.org/project/rotina/) project: the package `$package` holds

- `$package/agents/`: what is asked of a model, and how its answers are checked;
- `$package/workflows/`: the business processes that use the agents, their tests and their tables;
- `$package/workers/`: the Celery app that runs the workflows.

```
python3 -m venv .venv
.venv/bin/python -m pip install --upgrade pip
.venv/bin/python -m pip install --editable . --group dev
.venv/bin/pytest            # the project's own tests: no server, no model
.venv/bin/rotina up         # PostgreSQL, Valkey, a small model, a worker and the scheduler
.venv/bin/rotina run invoice_intake FILE…
```

`rotina up` starts only what is not configured: set `DATABASE_URL`, `REDIS_URL` and
`OPENAI_BASE_URL` to use servers of your own. Settings stand in `[tool.rotina]` in pyproject.toml.
""")

GITIGNORE = Template("""\
.venv/
.rotina/
__pycache__/
*.py[cod]
.pytest_cache/
dist/
""")

PACKAGE = Template('''\
"""$name: agents, workflows and workers."""
''')

FILES = {
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    ".gitignore": GITIGNORE,
    "$package/__init__.py": PACKAGE,
}
