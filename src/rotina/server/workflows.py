"""The workflows that may be started, with what goes in and what comes out."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from rotina.runs import Workflow, is_conversational
from rotina.server.access import PROTECTION, TenantClient, problems

router = APIRouter(prefix="/v1/workflows", tags=["workflows"], dependencies=PROTECTION)


class WorkflowDescription(BaseModel):
    """One workflow."""

    name: str
    description: str
    queue: str
    file_field: str | None
    """The input field that a file sent with the run fills; None where it takes no file."""
    conversational: bool
    """Whether it answers the messages of a thread."""
    input: dict[str, Any]
    """JSON Schema of a run's input."""
    output: dict[str, Any]
    """JSON Schema of a run's result."""


class WorkflowList(BaseModel):
    """All workflows, by name."""

    workflows: list[WorkflowDescription]


@router.get("", responses=problems())
async def list_workflows(client: TenantClient) -> WorkflowList:
    """The workflows of this deployment."""
    registry = client.registry
    return WorkflowList(workflows=[_describe(registry[name]) for name in sorted(registry)])


def _describe(workflow: Workflow) -> WorkflowDescription:
    return WorkflowDescription(
        name=workflow.name,
        description=workflow.description,
        queue=workflow.queue,
        file_field=workflow.file_field,
        conversational=is_conversational(workflow),
        input=workflow.input.model_json_schema(mode="validation"),
        output=workflow.output.model_json_schema(mode="serialization"),
    )
