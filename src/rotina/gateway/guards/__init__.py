"""Guards around a model call: personal data, secrets, size."""

from rotina.gateway.guards.chain import Guarded, Guards
from rotina.gateway.guards.credentials import find_secrets
from rotina.gateway.guards.finding import disjoint, redacted, replaced
from rotina.gateway.guards.guard import KINDS, Guard
from rotina.gateway.guards.pii import find_pii
from rotina.gateway.guards.walk import in_text

__all__ = ["Guard", "Guarded", "Guards", "redact"]


def redact(text: str) -> str:
    """`text` with every secret and all personal data that guards know as `<CPF>`, `<EMAIL>`, …; a
    JSON text stays JSON.

    The first call takes seconds, a text of 100,000 characters about one. Raises `SettingsError`
    where the extra `rotina[guards]` is not installed.
    """
    return in_text(text, _redacted)


def _redacted(text: str) -> str:
    found = disjoint([*find_secrets(text), *find_pii(text, KINDS)])
    return replaced(text, found, redacted)
