"""The chat model: llama.cpp's OpenAI-compatible server, in a process of its own.

`python -m rotina.embedded.model_server CONFIGURATION` is what the supervisor starts. The
configuration is a JSON file only its owner can read, because it holds the API key.
"""

import json
import signal
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

from rotina.embedded.capacity import available_memory

SLOT_CONTEXT = 8192
"""Tokens of prompt and answer together that one request may fill."""
_MOST_SLOTS = 4
_OVERHEAD = 800_000_000  # bytes for compute buffers, the prompt cache and the process
_TOKEN_BYTES = {"qwen2.5-1.5b": 28_672, "qwen2.5-0.5b": 12_288}  # keys and values, 16 bit


class ChatConfiguration(BaseModel):
    """What the chat server needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """The name callers use."""
    path: Path
    port: int
    api_key: SecretStr
    slots: int
    """Requests answered at the same time; further ones wait."""
    threads: int


def fitting_slots(model: str, size: int, memory: int | None = None) -> int:
    """How many requests of `SLOT_CONTEXT` tokens fit into memory at once, from 1 to 4.

    `size` is that of the model file and `memory` what is available (default: looked up), in bytes.
    llama.cpp divides its context among the slots, so each slot costs a context of its own.
    """
    memory = available_memory() if memory is None else memory
    spare = memory - size - _OVERHEAD
    return max(1, min(_MOST_SLOTS, spare // (_TOKEN_BYTES[model] * SLOT_CONTEXT)))


def serve(configuration: ChatConfiguration) -> None:
    """Serve until SIGTERM."""
    import xllamacpp  # noqa: PLC0415 - 34 MB of machine code that only this process needs

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(configuration.path)
    parameters.model_alias = {configuration.model}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = configuration.port
    parameters.api_keys = [configuration.api_key.get_secret_value()]
    parameters.n_parallel = configuration.slots
    parameters.n_ctx = configuration.slots * SLOT_CONTEXT
    parameters.cpuparams.n_threads = configuration.threads
    parameters.cpuparams_batch.n_threads = configuration.threads
    parameters.n_gpu_layers = 0
    parameters.cache_ram_mib = 256
    parameters.use_jinja = True
    parameters.endpoint_metrics = True
    parameters.endpoint_slots = False  # it shows the prompts of others
    parameters.ui = False
    server = xllamacpp.Server(parameters)  # referenced for as long as it must serve
    print(f"{configuration.model} serves at {server.listening_address}", flush=True)  # noqa: T201
    while True:
        signal.pause()


def main(path: Path) -> None:
    """Read the configuration and serve."""
    serve(ChatConfiguration.model_validate(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
