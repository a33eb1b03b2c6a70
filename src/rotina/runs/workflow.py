"""Workflows: named, typed LangGraph state machines, and the registry that finds them."""

import importlib
import pkgutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

from langgraph.graph.state import CompiledStateGraph, StateGraph
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rotina.errors import InvalidInputError, SettingsError, UnknownWorkflowError
from rotina.runs.flow import UNLIMITED, FlowControl, check_priority

Queue = Literal["io", "cpu"]
Tell = Callable[[Queue, int], Awaitable[object]]
"""Tells a queue that it has so many runs more."""


class FileReference(BaseModel):
    """A file that was stored when the run was accepted; its bytes are read by hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str = Field(min_length=1)
    media_type: str | None = None


@dataclass(frozen=True)
class Workflow:
    """A business process: what goes in, the graph that does it, what comes out.

    `build` returns a `StateGraph`; it is called and compiled once in a process. The graph starts
    with the input model's fields as its state; `output` is validated from the final state.
    """

    name: str
    input: type[BaseModel]
    output: type[BaseModel]
    build: Callable[[], StateGraph[Any, Any, Any, Any]]
    queue: Queue = "io"
    description: str = ""
    version: int = 1
    """Raise it when runs that are under way could not go on with the new graph: nodes renamed or
    removed, state that means something else. Their old code goes on with them."""
    resumes: frozenset[int] = frozenset()
    """Older versions whose runs this graph can go on with."""
    flow: FlowControl | None = None
    """Limits on how many start and are under way; None: as many as there are workers for."""
    priority: int = 0
    """Of its runs, where the starter names none: higher goes first within a tenant."""
    max_steps: int = 1000
    """Supersteps that an attempt may make: a graph that never ends fails. One that goes through a
    table batch by batch takes more."""

    def __post_init__(self) -> None:
        """Refuse limits by a field that the input does not have."""
        check_priority(self.priority)
        fields = self.input.model_fields.items()
        names = {field.serialization_alias or field.alias or name for name, field in fields}
        if self.flow is not None and self.flow.key is not None and self.flow.key not in names:
            raise SettingsError(
                f"The flow control of {self.name!r} goes by {self.flow.key!r}, which its input "
                f"does not have: name one of {', '.join(sorted(names))}"
            )

    @cached_property
    def graph(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        """The compiled graph, without a checkpointer."""
        return self.build().compile(name=self.name)

    @property
    def versions(self) -> list[int]:
        """The versions whose runs this code drives, its own first."""
        return [self.version, *sorted(self.resumes - {self.version})]

    @property
    def file_field(self) -> str | None:
        """The input field that takes a file, if the workflow has one."""
        for name, field in self.input.model_fields.items():
            if field.annotation in (FileReference, FileReference | None):
                return name
        return None

    def validate_input(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The input as JSON, or `InvalidInputError` with every problem in one line."""
        try:
            return self.input.model_validate(value).model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc']) or 'input'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_context=False)
            )
            raise InvalidInputError(f"Input of {self.name!r} is not valid: {problems}") from None


def limits(workflow: Workflow, value: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a run with that input that flow control goes by."""
    return UNLIMITED if workflow.flow is None else workflow.flow.row(workflow.name, value)


class Registry(Mapping[str, Workflow]):
    """The workflows of a project, by name."""

    def __init__(self, workflows: Iterable[Workflow]) -> None:
        self._workflows: dict[str, Workflow] = {}
        for workflow in workflows:
            other = self._workflows.setdefault(workflow.name, workflow)
            if other is not workflow:
                raise SettingsError(f"Two workflows are named {workflow.name!r}: rename one")

    @classmethod
    def load(cls, packages: Iterable[str], project: Path | None = None) -> Self:
        """Import the packages and their direct modules; collect their `Workflow` attributes.

        The `project`'s folder is made importable, as Celery does with the working directory.
        Raises `SettingsError` when a package named in the settings cannot be imported.
        """
        if project is not None and str(project) not in sys.path:
            sys.path.insert(0, str(project))
        found: dict[int, Workflow] = {}
        for package in packages:
            for module in _modules(package):
                for value in vars(module).values():
                    if isinstance(value, Workflow):
                        found[id(value)] = value
        return cls(found.values())

    @property
    def versions(self) -> dict[str, list[int]]:
        """Which runs this project's code drives: the versions of each workflow."""
        return {name: workflow.versions for name, workflow in self._workflows.items()}

    def __getitem__(self, name: str) -> Workflow:
        """The workflow of that name, or `UnknownWorkflowError` naming those that exist."""
        try:
            return self._workflows[name]
        except KeyError:
            known = ", ".join(sorted(self._workflows)) or "none; set `workflows` in [tool.rotina]"
            raise UnknownWorkflowError(f"No workflow {name!r}. Registered: {known}.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._workflows)

    def __len__(self) -> int:
        return len(self._workflows)

    def __contains__(self, name: object) -> bool:
        return name in self._workflows


def _modules(package: str) -> Iterator[ModuleType]:
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not package.startswith(error.name):
            raise
        raise SettingsError(
            f"workflows names {package!r}, which cannot be imported: "
            "run from the project's folder, or install the project"
        ) from None
    yield root
    for entry in pkgutil.iter_modules(getattr(root, "__path__", [])):
        if entry.name not in {"tests", "migrations"}:
            yield importlib.import_module(f"{package}.{entry.name}")
