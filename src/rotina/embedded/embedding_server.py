"""The embedding model behind OpenAI's wire protocol: Universal Sentence Encoder (multilingual), or
a sentence-transformers model that the settings name (`sentence_encoder.py`).

`python -m rotina.embedded.embedding_server CONFIGURATION` is what the supervisor starts. It serves
`POST /v1/embeddings`, `GET /v1/models` and `GET /health` on 127.0.0.1. A vector of the first model
has 512 dimensions and length 1, and depends on its own text only: the quantised model gives
slightly different vectors to texts that share a batch, so each text is run alone (which is no
slower, ~1 ms).

Yang et al., "Multilingual Universal Sentence Encoder for Semantic Retrieval", ACL 2020.
"""

import asyncio
import base64
import hmac
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from rotina.embedded.sentence_encoder import SentenceEncoder
from rotina.embedded.sentence_model import read_model
from rotina.errors import ContextTooLongError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import numpy as np
    from aiohttp import web

    Vector = np.ndarray[tuple[int], np.dtype[np.float32]]
    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DIMENSIONS = 512
MOST_INPUTS = 2048
_BODY_BYTES = 64_000_000


class EmbeddingConfiguration(BaseModel):
    """What the embedding server needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """The name callers use."""
    path: Path
    """The file of Universal Sentence Encoder, or the folder of a sentence-transformers model."""
    port: int
    api_key: SecretStr
    threads: int
    """Requests that are worked on at once, each by one processor."""


class EmbeddingRequest(BaseModel):
    """The body of `POST /v1/embeddings`; fields we do not know are ignored, as elsewhere."""

    input: str | list[str]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = Field(default=None, exclude=True)

    def texts(self) -> list[str]:
        """The input as a list.

        Raises `ValueError` when there is nothing to embed, or too much for one request.
        """
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not texts or not all(text.strip() for text in texts):
            raise ValueError("input must be a text, or a list of texts, none of them empty")
        if len(texts) > MOST_INPUTS:
            raise ValueError(f"input holds {len(texts)} texts, at most {MOST_INPUTS} are allowed")
        return texts


class Encoder:
    """Universal Sentence Encoder, loaded once; safe to call from several threads."""

    dimensions = DIMENSIONS

    def __init__(self, path: Path) -> None:
        import onnxruntime  # noqa: PLC0415 - only this process needs it
        import onnxruntime_extensions  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
        options.intra_op_num_threads = 1  # requests run side by side instead
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: "Sequence[str]") -> "list[Vector]":
        """One vector of shape (512,), float32, for each text."""
        import numpy as np  # noqa: PLC0415

        return [self._session.run(["outputs"], {"inputs": np.array([t])})[0][0] for t in texts]


class Endpoint:
    """The HTTP side."""

    def __init__(self, encoder: Encoder | SentenceEncoder, model: str, threads: int) -> None:
        self._encoder = encoder
        self._model = model
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")

    async def health(self, _request: "web.Request") -> "web.StreamResponse":
        """`GET /health`; no key needed."""
        from aiohttp import web  # noqa: PLC0415

        return web.json_response({"status": "ok"})

    async def models(self, _request: "web.Request") -> "web.StreamResponse":
        """`GET /v1/models`."""
        from aiohttp import web  # noqa: PLC0415

        entry = {"id": self._model, "object": "model", "created": 0, "owned_by": "embedded"}
        return web.json_response({"object": "list", "data": [entry]})

    async def embeddings(self, request: "web.Request") -> "web.StreamResponse":
        """`POST /v1/embeddings`.

        Tokens are not counted: `usage` says zero.
        """
        from aiohttp import web  # noqa: PLC0415

        try:
            asked = EmbeddingRequest.model_validate_json(await request.read())
            texts = asked.texts()
        except ValidationError as error:
            return _refusal(400, _first(error))
        except ValueError as error:
            return _refusal(400, str(error))
        if asked.model != self._model:
            return _refusal(404, f"model {asked.model!r} is not served here, {self._model!r} is")
        own = self._encoder.dimensions
        if asked.dimensions not in (None, own):
            return _refusal(400, f"dimensions: {self._model!r} has {own}, not {asked.dimensions}")
        loop = asyncio.get_running_loop()
        try:
            vectors = await loop.run_in_executor(self._pool, self._encoder.encode, texts)
        except ContextTooLongError as error:
            return _refusal(400, str(error), "context_length_exceeded")
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, asked)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return web.json_response(
            {"object": "list", "model": self._model, "data": data, "usage": usage}
        )


def application(endpoint: Endpoint, api_key: SecretStr) -> "web.Application":
    """The aiohttp application; every path but `/health` asks for the key."""
    from aiohttp import web  # noqa: PLC0415

    expected = f"Bearer {api_key.get_secret_value()}".encode()

    @web.middleware
    async def authorise(request: web.Request, handler: "Handler") -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if request.path != "/health" and not hmac.compare_digest(given, expected):
            return _refusal(401, "the API key is missing or wrong")
        return await handler(request)

    served = web.Application(middlewares=[authorise], client_max_size=_BODY_BYTES)
    served.router.add_get("/health", endpoint.health)
    served.router.add_get("/v1/models", endpoint.models)
    served.router.add_post("/v1/embeddings", endpoint.embeddings)
    return served


def _encoded(vector: "Vector", asked: EmbeddingRequest) -> Any:
    if asked.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return vector.tolist()


def _refusal(status: int, message: str, code: str | None = None) -> "web.StreamResponse":
    from aiohttp import web  # noqa: PLC0415

    body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return web.json_response(body, status=status)


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


def main(path: Path) -> None:
    """Read the configuration and serve until SIGTERM."""
    from aiohttp import web  # noqa: PLC0415

    configuration = EmbeddingConfiguration.model_validate(json.loads(path.read_text("utf-8")))
    path = configuration.path
    encoder = SentenceEncoder(read_model(path)) if path.is_dir() else Encoder(path)
    endpoint = Endpoint(encoder, configuration.model, configuration.threads)
    web.run_app(
        application(endpoint, configuration.api_key),
        host="127.0.0.1",
        port=configuration.port,
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
