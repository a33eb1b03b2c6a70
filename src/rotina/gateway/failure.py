"""From what went wrong on the wire to the error that says so, without a secret in it."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import aiohttp
from yarl import URL

from rotina.errors import (
    ContextTooLongError,
    ModelAuthError,
    ModelError,
    ModelMissingError,
    ModelOutputError,
    ModelQuotaError,
    ModelRateLimitedError,
    ModelRequestError,
    ModelServerError,
    ModelTimeoutError,
    ModelUnreachableError,
)
from rotina.gateway.provider import RefusedError
from rotina.gateway.retry import parse_retry_after

EXCERPT = 200
"""Characters of a server's or model's text that a message may repeat."""

_SEARCHED = 20 * EXCERPT
"""Characters looked at: a key that begins among those shown ends among these."""
_HIDDEN = "[hidden]"
_LOOKS_SECRET = re.compile(
    r"(?i)\b(?:bearer|basic)\s+[\w.~+/=-]{6,}"
    r"|\b(?:sk|pk|rk|api|key|gsk|hf|xai)[-_][\w-]{8,}"
    r"|\bAIza[\w-]{20,}"
    r"|(?<=://)[^/\s@]+@"
)
_TOO_LONG = re.compile(
    r"(?i)(maximum|available) context (length|size|window)|exceed\w* (the )?(\w+ )?context"
    r"|context (length|size|window) (exceeded|of only)|longer than the model's context"
    r"|(prompt|input) is too long|exceeds the maximum number of tokens|input tokens exceed"
    r"|too large to process|must have less than \d+ tokens"
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be"
)
_TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error"}
# OpenAI: "Invalid schema for response_format"; llama.cpp: "JSON schema error at #/a", "failed to
# parse grammar"; vLLM: "The provided JSON schema contains features not supported by xgrammar".
_SCHEMA = re.compile(r"(?i)schema|grammar|response_?format|structured_?outputs?|guided_")
_TOOL = re.compile(r"(?i)tool_choice|\btools?\b|\bfunctions?\b")
_AUTH_CODES = {"API_KEY_INVALID", "API_KEY_EXPIRED"}
_FILTER_CODES = {"content_filter", "content_policy_violation"}
# What Linux, macOS and OpenSSL say; the text of any other transport error may hold the URL.
_TLS_ERRORS = (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError)


class Endpoint:
    """Where a deployment lives, how messages call it, and what they must not repeat."""

    def __init__(
        self, deployment: str, url: URL, key: str | None, variable: str = "OPENAI_API_KEY"
    ) -> None:
        """`variable` is where the provider's users keep the key."""
        self.deployment = deployment
        self.variable = variable
        self.url = url
        # Keys come out of files and clipboards with a line break at the end.
        self.key = key = key.strip() if key else None
        self._secrets = _secrets(url, key)

    def __str__(self) -> str:
        """The deployment's name and the host: never user, password, path or query."""
        host = self.url.host or "?"
        shown = f"[{host}]" if ":" in host else host
        port = "" if self.url.is_default_port() else f":{self.url.port}"
        return f"deployment {self.deployment!r} at {self.url.scheme}://{shown}{port}"

    def excerpt(self, text: str) -> str:
        """The beginning of a foreign text, on one line, with secrets hidden."""
        # Hide before cutting: half a key is no longer recognised, but is still half a key.
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return excerpt(text)


def excerpt(text: str) -> str:
    """The beginning of a text, on one line, without what looks like a key."""
    text = " ".join(_LOOKS_SECRET.sub(_HIDDEN, text[:_SEARCHED]).split())
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return printable if len(printable) <= EXCERPT else printable[:EXCERPT] + "…"


def _secrets(url: URL, key: str | None) -> list[str]:
    """Everything confidential in the forms it may be repeated in, the longest first."""
    known: set[str] = set(_forms([key or "", url.password or "", *url.query.values()]))
    if url.user:
        pair = f"{url.user}:{url.password or ''}"
        known.add(base64.b64encode(pair.encode()).decode())
    known.add(str(url))
    # Replacing one or two characters everywhere would only make a text unreadable.
    return sorted((secret for secret in known if len(secret) >= 4), key=len, reverse=True)  # noqa: PLR2004


def _forms(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        yield from (
            value,
            unquote(value),
            URL.build(path="/", query={"q": value}).raw_query_string[2:],
        )


def transport_error(error: aiohttp.ClientError | OSError, endpoint: Endpoint) -> ModelError:
    """The error for a connection that failed; `error` itself may hold the URL and is not shown."""
    if isinstance(error, _TLS_ERRORS):
        return ModelUnreachableError(
            f"The TLS connection to {endpoint} failed ({type(error).__name__}): "
            "check the certificate, and http or https in base_url"
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ModelUnreachableError(
            f"{endpoint} did not accept a connection in time: is the server running and reachable?"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or type(error.os_error).__name__
        return ModelUnreachableError(
            f"Cannot connect to {endpoint} ({reason}): is the server running, "
            "and is base_url right? `rotina doctor` checks it"
        )
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return ModelRequestError(f"base_url of {endpoint} is not a usable URL: correct it")
    return ModelUnreachableError(
        f"{endpoint} dropped the connection before the answer was complete "
        f"({type(error).__name__}); its log should say why"
    )


def refusal(status: int, retry_after: str | None, body: bytes, endpoint: Endpoint) -> ModelError:
    """The error for an HTTP status that is not 200, in a `RefusedError` if it names a wait."""
    problem = _error_object(body)
    error = _classify(status, problem, endpoint)
    wait = parse_retry_after(retry_after or _retry_delay(problem)) if error.transient else None
    return error if wait is None else RefusedError(error, retry_after=wait)


def _classify(status: int, problem: dict[str, Any], endpoint: Endpoint) -> ModelError:
    text = str(problem.get("message") or "")
    codes = {str(problem.get("code")), str(problem.get("type"))}
    codes |= {str(detail.get("reason")) for detail in _details(problem)}
    said = f": {endpoint.excerpt(text)}" if text else ""
    if status in {401, 403} or codes & _AUTH_CODES:
        # The body of such an answer often repeats the key, so it is not shown at all.
        return ModelAuthError(
            f"{endpoint} refused the credentials ({status}): "
            f"check api_key_env, api_key or {endpoint.variable}, and what the key may use"
        )
    if codes & _FILTER_CODES:
        return ModelOutputError(f"{endpoint} filtered the content ({status}){said}")
    if codes & _TOO_LONG_CODES or (status in {400, 413, 422, 500} and _TOO_LONG.search(text)):
        return ContextTooLongError(
            f"The prompt does not fit the context of {endpoint} ({status}){said}. "
            "Send less text, or declare the real `context` of the deployment"
        )
    return _classify_status(status, codes, said, endpoint)


def _classify_status(status: int, codes: set[str], said: str, endpoint: Endpoint) -> ModelError:
    if status == 429 and "insufficient_quota" in codes:  # noqa: PLR2004
        return ModelQuotaError(
            f"The quota of {endpoint} is used up (429){said}. Check the plan and its billing"
        )
    if status == 429:  # noqa: PLR2004
        return ModelRateLimitedError(
            f"{endpoint} limits the rate (429){said}. Lower its `concurrency`, or ask for more"
        )
    if status == 408:  # noqa: PLR2004
        return ModelTimeoutError(f"{endpoint} gave up waiting (408){said}")
    if status >= 500:  # noqa: PLR2004
        return ModelServerError(f"{endpoint} failed ({status}){said}. Its log should say why")
    if status == 404:  # noqa: PLR2004
        return ModelMissingError(
            f"{endpoint} refused the request (404){said}. "
            'Check `model`, and base_url: with provider = "openai" it ends where '
            "/chat/completions begins"
        )
    if 300 <= status < 400:  # noqa: PLR2004
        # Following it would turn the POST into a GET, or carry the key to another host.
        said += ". It redirects: set base_url to the final address"
    return ModelRequestError(f"{endpoint} refused the request ({status}){said}")


def _details(problem: dict[str, Any]) -> list[dict[str, Any]]:
    """The `details` of Google's errors (google.rpc.Status)."""
    found = problem.get("details")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _retry_delay(problem: dict[str, Any]) -> str | None:
    """The seconds of Google's RetryInfo, which stands in for the header."""
    delays = (str(detail.get("retryDelay") or "") for detail in _details(problem))
    return next((delay.removesuffix("s") for delay in delays if delay), None)


def error_in_body(problem: Any, endpoint: Endpoint) -> ModelError:
    """The error for a 200 whose body is an error, which some proxies send."""
    found = problem if isinstance(problem, dict) else {"message": str(problem)}
    code = found.get("code")
    status = code if isinstance(code, int) and code >= 400 else 500  # noqa: PLR2004
    return _classify(status, found, endpoint)


def _error_object(body: bytes) -> dict[str, Any]:
    """The `error` of OpenAI's form, and what other servers send instead."""
    text = body.decode("utf-8", errors="replace")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        # An HTML page of a proxy tells a reader nothing; a plain line does.
        return {} if text.lstrip().startswith("<") else {"message": text}
    if not isinstance(parsed, dict):
        return {"message": text}
    problem = parsed.get("error", parsed)
    if not isinstance(problem, dict):
        return {"message": str(problem)}
    return problem if "message" in problem else {**problem, "message": text}


def unsupported_parameter(body: bytes) -> str | None:
    """The parameter that OpenAI's newer models refuse, if that is what the 400 says."""
    problem = _error_object(body)
    if problem.get("code") in {"unsupported_parameter", "unsupported_value"}:
        parameter = problem.get("param")
        return parameter if isinstance(parameter, str) else None
    return None


def refuses_schema(error: ModelError, body: bytes) -> bool:
    """Whether a request with a schema was refused for the schema, or for asking that way."""
    if type(error) not in {ModelRequestError, ModelServerError}:
        return False
    text = str(_error_object(body))
    by_tool = isinstance(error, ModelRequestError) and _TOOL.search(text) is not None
    return by_tool or _SCHEMA.search(text) is not None
