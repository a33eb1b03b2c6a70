"""The two model servers as programs: what they serve, where, and how callers reach them."""

import http.client
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rotina.embedded.capacity import processors
from rotina.embedded.embedding_server import EmbeddingConfiguration
from rotina.embedded.model_server import SLOT_CONTEXT, ChatConfiguration, fitting_slots
from rotina.embedded.process import Program, secret_file, write_private
from rotina.embedded.sentence_model import SentenceModel
from rotina.embedded.weights import Weights

CHAT = "embedded-chat"
EMBED = "embedded-embed"
EMBEDDING_MODEL = "use-multilingual-v3"
_FREE = {"input": 0.0, "output": 0.0}
_TIMEOUT = 900.0  # seconds: four long prompts on two processors


@dataclass(frozen=True)
class ModelServer:
    """A model server that is ready to be started."""

    program: Program
    port: int
    deployment: dict[str, Any]
    """As `rotina.settings.Deployment` takes it."""

    def ready(self) -> bool:
        """Whether the model is loaded and serves."""
        return is_healthy(self.port)


def is_healthy(port: int) -> bool:
    """Whether a server on this machine answers `GET /health` with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def chat_server(data: Path, *, model: str, weights: Weights, path: Path, port: int) -> ModelServer:
    """The chat model `model`, whose verified file is at `path`."""
    configuration = ChatConfiguration(
        model=model,
        path=path,
        port=port,
        api_key=secret_file(data / "api_key"),
        slots=fitting_slots(model, weights.size),
        threads=processors(),
    )
    module = "rotina.embedded.model_server"
    program = _program("chat", module, data, configuration)
    deployment = _deployment(configuration) | {
        "context": SLOT_CONTEXT,
        "concurrency": configuration.slots,
    }
    return ModelServer(program, port, deployment)


def embedding_server(
    data: Path, *, path: Path, port: int, served: SentenceModel | None = None
) -> ModelServer:
    """The embedding model, whose verified file is at `path`, or `served`, whose folder is."""
    configuration = EmbeddingConfiguration(
        model=EMBEDDING_MODEL if served is None else served.name,
        path=path,
        port=port,
        api_key=secret_file(data / "api_key"),
        threads=processors(),
    )
    module = "rotina.embedded.embedding_server"
    program = _program("embed", module, data, configuration)
    deployment = _deployment(configuration)
    if served is not None:
        deployment |= {"context": served.tokens, "tokenizer": str(served.tokenizer)}
    return ModelServer(program, port, deployment)


def _deployment(served: ChatConfiguration | EmbeddingConfiguration) -> dict[str, Any]:
    return {
        "model": served.model,
        "base_url": f"http://127.0.0.1:{served.port}/v1",
        "api_key": served.api_key.get_secret_value(),
        "timeout": _TIMEOUT,
        "price": _FREE,
    }


def _program(
    name: str, module: str, data: Path, served: ChatConfiguration | EmbeddingConfiguration
) -> Program:
    values = served.model_dump(mode="json") | {"api_key": served.api_key.get_secret_value()}
    write_private(data / "server.json", json.dumps(values))
    return Program(
        name=name,
        command=(sys.executable, "-m", module, data / "server.json"),
        log=data.parent / "logs" / f"{name}.log",
        # A thread that spins while it waits starves the other processes of a small machine.
        environment={"OMP_WAIT_POLICY": "PASSIVE"},
    )
