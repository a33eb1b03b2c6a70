"""Share of real JSON Schemas that a server takes, and of its outputs that are valid.

    python -m benchmarks.structured_output --data FILE [--outputs 40] [--seed 1] [--seconds 540]

FILE is a sample of JSONSchemaBench: one JSON object a line (may be gzipped) with `id`, `set` and
`schema`. The server is the embedded llama.cpp with the smallest model, started here; its weights
are fetched if they are missing.

The peer, measured in the same run on the same server, sends the same schema as `response_format`
and takes what comes. The gateway reduces what is refused, asks in the prompt where that is refused
too, and sends an invalid output back once. Outputs are sampled with a seed; those that do not fit
the limit of tokens are not valid for either.
"""

import argparse
import asyncio
import gzip
import json
import logging
import platform
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from rotina.embedded.models import ModelServer, chat_server
from rotina.embedded.process import free_port, spawn
from rotina.embedded.weights import cache_folder, fetch, manifest
from rotina.errors import ModelError, ModelTruncatedError, SchemaError
from rotina.gateway import Gateway
from rotina.gateway.structured import Contract
from rotina.settings import Deployment, Route, Settings

MODEL = "qwen2.5-0.5b"
ANSWER_TOKENS = 300
GOAL = 1.0

Schema = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One schema of the sample."""

    name: str
    schema: Schema

    @property
    def messages(self) -> list[Any]:
        """What is asked for: a document about the schema's title."""
        about = self.schema.get("title") or self.schema.get("description") or Path(self.name).stem
        return [{"role": "user", "content": f"Write a short, realistic JSON document: {about}"}]


def read(path: Path) -> list[Row]:
    """The sample."""
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    rows = [json.loads(line) for line in text.splitlines()]
    return [Row(row["id"], row["schema"]) for row in rows]


class Served:
    """The embedded model server; some schemas end it, so it may have to be started again."""

    def __init__(self, server: ModelServer) -> None:
        self.deployment = server.deployment
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        self.ends = 0

    def ensure(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self.ends += self._process is not None
        self._process = spawn(self._server.program)
        while not self._server.ready():
            if self._process.poll() is not None:
                raise SystemExit(f"It did not start: see {self._server.program.log}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """The embedded model server, until the block ends."""
    weights = manifest()[MODEL]
    path = fetch(weights, cache_folder(), lambda _name, _done, _total: None)
    (folder / "logs").mkdir()
    (folder / "chat").mkdir()
    server = Served(
        chat_server(folder / "chat", model=MODEL, weights=weights, path=path, port=free_port())
    )
    try:
        server.ensure()
        yield server
    finally:
        server.stop()


class Levels(logging.Handler):
    """Listens to what the gateway says about schemas that were refused."""

    def __init__(self) -> None:
        super().__init__()
        self.said = 0
        self.in_words = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.said += 1
        self.in_words += "asked for in the prompt" in record.getMessage()


async def compiled(gateway: Gateway, row: Row, levels: Levels) -> str:
    """How the server takes the schema through the gateway: one token is enough to know."""
    said, in_words = levels.said, levels.in_words
    try:
        async for _ in gateway.stream(row.messages, schema=row.schema, max_tokens=1):
            pass
    except ModelTruncatedError:
        pass
    except SchemaError:
        return "no valid schema"
    except ModelError as error:
        return f"failed: {type(error).__name__}"
    if levels.in_words > in_words:
        return "prompt"
    return "reduced" if levels.said > said else "whole"


async def raw(session: aiohttp.ClientSession, server: Served, row: Row, tokens: int) -> str | None:
    """What the server says to the schema as it is; None when it refuses it."""
    deployment = server.deployment
    wanted = {"name": "output", "schema": row.schema}
    body = {
        "model": MODEL,
        "messages": row.messages,
        "temperature": 0,
        "max_tokens": tokens,
        "response_format": {"type": "json_schema", "json_schema": wanted},
    }
    headers = {"Authorization": f"Bearer {deployment['api_key']}"}
    url = f"{deployment['base_url']}/chat/completions"
    try:
        async with session.post(url, json=body, headers=headers) as response:
            if response.status != 200:
                return None
            told = await response.json()
    except aiohttp.ClientConnectionError:
        # It takes a moment to be gone.
        await asyncio.sleep(1)
        server.ensure()
        return None
    return str(told["choices"][0]["message"]["content"])


def is_valid(row: Row, text: str | None) -> bool:
    """Whether a text is valid against the whole schema."""
    try:
        contract = Contract(row.schema)
        return text is not None and not contract.examine(text, fenced=False).problems
    except SchemaError:
        return False


async def answered(gateway: Gateway, row: Row) -> tuple[str, int]:
    """What comes of a call through the gateway, and how many requests it took."""
    try:
        answer = await gateway.chat(row.messages, schema=row.schema, max_tokens=ANSWER_TOKENS)
    except (ModelError, SchemaError) as error:
        return type(error).__name__, 0
    return "valid", answer.attempts


async def measure(
    server: Served, rows: Sequence[Row], outputs: int, seed: int, seconds: float
) -> dict[str, Any]:
    """Both shares, of the gateway and of the peer."""
    end = time.monotonic() + seconds
    settings = Settings(
        deployments={"one": Deployment(**server.deployment)},
        routes={"smart": Route(deployments=["one"])},
    )
    levels = Levels()
    logging.getLogger("rotina.gateway.ladder").addHandler(levels)
    ours, theirs = Counter[str](), Counter[str]()
    async with Gateway(settings) as gateway, aiohttp.ClientSession() as session:
        for row in rows:
            theirs["taken" if await raw(session, server, row, 1) is not None else "refused"] += 1
            ours[await compiled(gateway, row, levels)] += 1
        report: dict[str, Any] = {"schemas": len(rows), "gateway": dict(ours), "raw": dict(theirs)}
        report["server_ended_by_raw"] = server.ends
        print(json.dumps(report), flush=True)
        sample = random.Random(seed).sample(list(rows), min(outputs, len(rows)))
        valid, peer, requests, asked = Counter[str](), 0, 0, 0
        for row in sample:
            if time.monotonic() > end:
                break
            asked += 1
            outcome, attempts = await answered(gateway, row)
            text = await raw(session, server, row, ANSWER_TOKENS)
            valid[outcome] += 1
            requests += attempts
            peer += is_valid(row, text)
            print(f"{row.name} gateway {outcome} raw {is_valid(row, text)}", flush=True)
    outcome_report = {"sampled": asked, "gateway": dict(valid), "raw_valid": peer}
    return {**report, "outputs": outcome_report, "requests_of_valid": requests}


def shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Of schemas compiled and of outputs valid."""
    schemas, outputs = report["schemas"], report["outputs"]["sampled"] or 1
    compiled_here = report["gateway"].get("whole", 0) + report["gateway"].get("reduced", 0)
    return {
        "compiled": round(compiled_here / schemas, 4),
        "compiled_raw": round(report["raw"].get("taken", 0) / schemas, 4),
        "valid": round(report["outputs"]["gateway"].get("valid", 0) / outputs, 3),
        "valid_raw": round(report["outputs"]["raw_valid"] / outputs, 3),
    }


def main() -> None:
    """Print what comes of each output and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=None, help="schemas, the first ones")
    parser.add_argument("--outputs", type=int, default=40, help="schemas whose outputs are read")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=540.0, help="no output is begun after")
    options = parser.parse_args()
    rows = read(options.data)[: options.limit]
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        report = asyncio.run(measure(server, rows, options.outputs, options.seed, options.seconds))
    found = shares(report)
    print(
        json.dumps(
            {
                "name": "structured_output",
                "ratio": round(found["valid"] / found["valid_raw"], 3)
                if found["valid_raw"]
                else None,
                "goal": GOAL,
                "peer": "the same schema as response_format, once, on the same server",
                "details": {
                    "hardware": platform.processor() or platform.machine(),
                    **found,
                    **report,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
