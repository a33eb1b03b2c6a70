"""`rotina serve` as a process, and the HTTP requests of programs that use it."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import aiohttp

from tests.acceptance.scripts import document
from tests.acceptance.stack import Stack

LISTENS = re.compile(r"serves at (http://\S+)")

Event = tuple[int, str]
"""An event's number and its kind."""


class Door:
    """A server process and a key for it."""

    def __init__(self, stack: Stack, name: str = "server", port: int = 0) -> None:
        self.stack, self.name = stack, name
        seen = len(LISTENS.findall(stack.log(name)))
        self.process = stack.rotina(name, "serve", "--port", str(port))
        stack.wait_for("the server", lambda: len(LISTENS.findall(stack.log(name))) > seen)
        self.url = LISTENS.findall(stack.log(name))[-1]
        self.port = int(self.url.rpartition(":")[2])

    def key(self, tenant: str = "default") -> str:
        made = self.stack.run("keys", "create", "acceptance", "--tenant", tenant)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def ask(
        self, key: str, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        content = None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.url + path, content, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def upload(self, key: str, index: int, name: str) -> tuple[int, dict[str, Any]]:
        """Start an intake of a `document` as any HTTP client does, with a form; `name` is the
        idempotency key."""
        return asyncio.run(self._upload(key, index, name))

    async def _upload(self, key: str, index: int, name: str) -> tuple[int, dict[str, Any]]:
        form = aiohttp.FormData({"workflow": "invoice_intake"})
        content = document(index).encode()
        form.add_field("file", content, filename="invoice.txt", content_type="text/plain")
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(f"{self.url}/v1/runs", data=form, headers=headers) as response,
        ):
            run = await response.json()
            assert isinstance(run, dict)
            return response.status, run

    def follow(self, key: str, run_id: str, *, after: int = 0) -> Iterator[Event]:
        """A run's events behind event `after`, until the stream ends."""
        headers = {"Authorization": f"Bearer {key}", "Last-Event-ID": str(after)}
        request = urllib.request.Request(f"{self.url}/v1/runs/{run_id}/events", headers=headers)
        number = after
        with urllib.request.urlopen(request, timeout=60) as response:
            for line in response:
                field, _, value = line.decode().strip().partition(": ")
                if field == "id":
                    number = int(value)
                elif field == "event":
                    yield number, value
