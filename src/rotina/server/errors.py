"""Errors that only callers over HTTP meet.

RotinaError
├── ModelNotFoundError       `model` names no route and no deployment's model
└── AccessError
    └── RevokedKeyError      the API key is right, and was revoked
"""

from rotina.errors import AccessError, RotinaError


class RevokedKeyError(AccessError):
    """The API key is right, and was revoked."""


class ModelNotFoundError(RotinaError):
    """No route and no deployment's model has that name."""
