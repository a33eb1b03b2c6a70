"""What can go wrong when a project is created."""

from rotina.errors import RotinaError


class ScaffoldError(RotinaError):
    """The project cannot be created under this name or in this folder."""
