"""Every error Rotina raises on purpose. A message names the value and the remedy.

RotinaError
├── SettingsError                a setting is unknown, malformed or missing
├── DatabaseError                PostgreSQL is unreachable, or its schema is not the expected one
├── EmbeddedError                a part of the embedded default cannot start
│   ├── AlreadyRunningError      another supervisor owns this data directory
│   └── DownloadError            a wheel or model file cannot be fetched or has another hash
├── DocumentError                a document cannot be turned into text
│   ├── UnsupportedDocumentError no loader knows this format
│   ├── EmptyDocumentError       zero bytes, or nothing but white space
│   ├── EncryptedDocumentError   a password is needed
│   ├── NoTextLayerError         a scan: pages without text
│   ├── DocumentTooLargeError    more bytes, pages, memory or time than the limits allow
│   └── CorruptDocumentError     the bytes are not what the format promises
├── KnowledgeError               a collection or search cannot be used as asked
│   ├── CollectionNotFoundError  no collection of that name (in this tenant)
│   ├── FilterError              a metadata filter is malformed
│   ├── SourceError              what a collection follows cannot be named, listed or fetched
│   └── KnowledgeChangedError    it changed while something was embedded: try again
├── SchemaError                  a JSON Schema cannot be used for extraction
├── PromptError                  a prompt is missing or malformed, or its variables do not fit
├── ModelError                   a model call did not give a usable answer
│   ├── ModelUnreachableError    connect refused, DNS, TLS, connection dropped    (transient)
│   ├── ModelTimeoutError        no answer within the deadline                     (transient)
│   ├── ModelRateLimitedError    429                                               (transient)
│   ├── ModelServerError         5xx                                               (transient)
│   ├── ModelAuthError           401, 403
│   ├── ModelRequestError        any other 4xx
│   │   ├── ContextTooLongError  the prompt does not fit the model's context
│   │   └── ModelCapabilityError no deployment of the route can do what is asked; nothing was sent
│   ├── GuardError               a guard lets the request or the answer not pass
│   └── ModelOutputError         empty, refused or malformed output
│       └── ModelTruncatedError  the output was cut at its length limit
├── AccessError                  an API key is missing, unknown, revoked or not allowed this
└── RunError                     a run cannot be accepted, found or continued
    ├── UnknownWorkflowError     no workflow of that name is registered
    ├── InvalidInputError        the input does not fit the workflow's input model
    ├── IdempotencyConflictError the key was used before with another input
    ├── RunNotFoundError         no run with that id (in this tenant)
    ├── RunFailedError           raised to a waiting caller: the run ended failed
    ├── RunStateError            the run's state does not allow what is asked
    ├── EffectNotDoneError       raised by an effect: its receiver certainly did nothing
    │   └── ReceiverDownError    it was not reached, or said that it cannot now       (transient)
    ├── ReviewExpiredError       raised in a node: nobody answered by the deadline
    ├── LeaseLostError           another worker owns the run now; nothing was written
    ├── TryLaterError            raised by a node: hand the run back for a moment, no attempt used
    ├── ReviewNotFoundError      no review with that id (in this tenant)
    ├── ReviewAnsweredError      somebody else answered first
    ├── ThreadNotFoundError      no thread with that id (in this tenant)
    └── ScheduleError            a schedule is malformed or unknown
"""

import re
from typing import Any, ClassVar


class RotinaError(Exception):
    """Base of all errors raised by Rotina."""

    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anyone changing anything."""

    @classmethod
    def words(cls) -> list[str]:
        """The class's name in words: `RunNotFoundError` is `["Run", "Not", "Found"]`."""
        return re.findall("[A-Z][a-z]*", cls.__name__.removesuffix("Error"))


class SettingsError(RotinaError):
    """A setting is unknown, malformed or missing."""


class DatabaseError(RotinaError):
    """PostgreSQL is unreachable, or its schema is not the expected one."""


class EmbeddedError(RotinaError):
    """A part of the embedded default cannot start."""


class AlreadyRunningError(EmbeddedError):
    """Another supervisor owns this data directory."""


class DownloadError(EmbeddedError):
    """A wheel or model file cannot be fetched, or has another hash."""


class DocumentError(RotinaError):
    """A document cannot be turned into text."""


class UnsupportedDocumentError(DocumentError):
    """No loader knows this format."""


class EmptyDocumentError(DocumentError):
    """The document has zero bytes, or nothing but white space."""


class EncryptedDocumentError(DocumentError):
    """A password is needed to read the document."""


class NoTextLayerError(DocumentError):
    """The document is a scan: its pages hold no text."""


class DocumentTooLargeError(DocumentError):
    """The document needs more bytes, pages, memory or time than the limits allow."""


class CorruptDocumentError(DocumentError):
    """The bytes are not what the format promises."""


class KnowledgeError(RotinaError):
    """A collection or search cannot be used as asked."""


class SourceError(KnowledgeError):
    """What a collection follows cannot be named, listed or fetched."""


class KnowledgeChangedError(KnowledgeError):
    """A document or its collection changed while it was being embedded: try again."""


class CollectionNotFoundError(KnowledgeError):
    """There is no collection of that name in this tenant."""


class FilterError(KnowledgeError):
    """A metadata filter is malformed."""


class SchemaError(RotinaError):
    """A JSON Schema cannot be used for extraction."""


class PromptError(RotinaError):
    """A prompt is missing or malformed, or its variables do not fit."""


class ModelError(RotinaError):
    """A model call did not give a usable answer."""

    elsewhere = True
    """Whether another deployment of the route may do better."""
    retry_after: float | None = None
    """Seconds after which the server asked to be called again."""


class ModelUnreachableError(ModelError):
    """The model server refused, dropped or never accepted the connection."""

    transient = True


class ModelTimeoutError(ModelError):
    """The model server did not answer within the deadline."""

    transient = True


class ModelRateLimitedError(ModelError):
    """The model server answered 429."""

    transient = True


class ModelServerError(ModelError):
    """The model server answered 5xx."""

    transient = True


class ModelAuthError(ModelError):
    """The model server refused the credentials (401, 403)."""


class ModelRequestError(ModelError):
    """The model server refused the request (any other 4xx)."""

    elsewhere = False


class ModelQuotaError(ModelError):
    """The quota of the model server's account is used up."""


class ModelMissingError(ModelError):
    """The model server does not have the model, or the address (404)."""


class ContextTooLongError(ModelRequestError):
    """The prompt does not fit the model's context."""

    elsewhere = True


class ModelCapabilityError(ModelRequestError):
    """No deployment that may be asked is declared to do what the request needs; none was."""

    elsewhere = True


class ModelOutputError(ModelError):
    """The model's output is empty, refused or malformed."""

    answer: Any = None
    """What came, a `rotina.gateway.ChatAnswer`, where `Gateway.chat` got something that can be
    read: for protocols that have words for answers which are cut or refused."""


class ModelTruncatedError(ModelOutputError):
    """The model's output was cut at its length limit."""

    elsewhere = False


class GuardError(ModelError):
    """A guard of the route lets the request or the answer not pass; the value is never shown."""

    elsewhere = False


class BudgetExceededError(ModelError):
    """A call could exceed a budget; it was not made."""


class BudgetPriceError(ModelError):
    """A deployment without a price was to be paid from a budget in money; no call was made."""


class AccessError(RotinaError):
    """An API key is missing, unknown, revoked or not allowed this."""


class RunError(RotinaError):
    """A run cannot be accepted, found or continued."""


class UnknownWorkflowError(RunError):
    """No workflow of that name is registered."""


class InvalidInputError(RunError):
    """The input does not fit the workflow's input model."""


class IdempotencyConflictError(RunError):
    """The idempotency key was used before with another input."""


class RunNotFoundError(RunError):
    """There is no run with that id in this tenant."""


class RunFailedError(RunError):
    """Raised to a waiting caller: the run ended failed."""


class ChildFailedError(RunError):
    """A run that another one waits for did not succeed."""


class ReplayError(RunError):
    """A replayed graph asks for what its run did not."""


class RunStateError(RunError):
    """The run's state does not allow what is asked of it."""


class EffectNotDoneError(RunError):
    """Raised by an effect whose receiver certainly did nothing: it may be tried again."""


class ReceiverDownError(EffectNotDoneError):
    """The receiver of an effect was not reached, or said that it cannot now: nothing was done."""

    transient = True


class ReviewExpiredError(RunError):
    """Raised in the node that asked: nobody answered by the deadline."""


class LeaseLostError(RunError):
    """Another worker owns the run now; nothing was written."""


class TryLaterError(RunError):
    """Raised by a node that cannot go on yet: the run is handed back and uses no attempt up."""

    def __init__(self, message: str, *, seconds: float) -> None:
        """The run is due again in `seconds`."""
        super().__init__(message)
        self.seconds = seconds


class ReviewNotFoundError(RunError):
    """There is no review with that id in this tenant."""


class ReviewAnsweredError(RunError):
    """Somebody else answered the review first."""


class ThreadNotFoundError(RunError):
    """There is no thread with that id in this tenant."""


class ScheduleError(RunError):
    """A schedule is malformed or unknown."""
