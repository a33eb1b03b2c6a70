"""support_desk: a conversation with a customer, message by message, each one a durable run."""

from pydantic import BaseModel

from agents.support import SUPPORT
from rotina.graphs.support import SupportReply, build_support
from rotina.runs import MessageInput, Workflow


class SupportInput(MessageInput):
    """A customer's message."""


class SupportOutput(BaseModel):
    """What was replied."""

    reply: SupportReply


SUPPORT_DESK = Workflow(
    name="support_desk",
    description="Answer customers from the help centre, look up orders, open tickets, book visits.",
    input=SupportInput,
    output=SupportOutput,
    build=lambda: build_support(SUPPORT),
)
