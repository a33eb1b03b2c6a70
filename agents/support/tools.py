"""What the support desk can look up and do in the shop's own tables."""

from datetime import date
from typing import Annotated, Any, Literal

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from pydantic import BaseModel, BeforeValidator, Field

from agents.support import wording
from rotina.graphs.support import Call, Tool


def _as_order_number(value: object) -> object:
    """`ab 10442` and `AB10442` are AB-10442."""
    if not isinstance(value, str):
        return value
    plain = "".join(character for character in value.upper() if character.isalnum())
    return f"{plain[:2]}-{plain[2:]}"


OrderNumber = Annotated[
    str, BeforeValidator(_as_order_number), Field(pattern=r"^[A-Z]{2}-[0-9]{4,8}$")
]


class OrderArguments(BaseModel):
    """Which order."""

    number: OrderNumber


class TicketArguments(BaseModel):
    """What a person of the help desk needs to know."""

    topic: Literal["delivery", "payment", "product", "account", "other"] = "other"
    message: str = Field(min_length=1, max_length=500)
    number: OrderNumber | None = None


class AppointmentArguments(BaseModel):
    """When somebody comes to the store."""

    day: date
    period: Literal["morning", "afternoon"]


async def find_order(call: Call, arguments: OrderArguments) -> dict[str, Any]:
    """The order as the shop has it; a known customer sees only their own."""
    rows = await call.context.query(
        """
        select number, status, placed_on, expected_on, tracking_code
        from shop_order
        where tenant = %(tenant)s and number = %(number)s
            and (%(customer)s::text is null or customer = %(customer)s)
        """,
        {
            "tenant": call.context.tenant,
            "number": arguments.number,
            "customer": call.customer,
        },
    )
    found = {"number": arguments.number, "found": bool(rows)}
    return found | {name: _json(value) for row in rows for name, value in row.items()}


async def open_ticket(call: Call, arguments: TicketArguments) -> dict[str, Any]:
    """A row for the help desk, once."""
    text = arguments.message
    if arguments.number:
        text = f"[{arguments.number}] {text}"
    return await _insert_ticket(call, "customer", text, arguments.topic)


async def hand_over(call: Call, reason: str) -> dict[str, Any]:
    """A ticket for the person who takes over; the thread's id leads to the conversation."""
    return await _insert_ticket(call, "handover", reason, None)


async def book_appointment(call: Call, arguments: AppointmentArguments) -> dict[str, Any]:
    """The first free place of the three in a period, if there is one."""
    values = {**_origin(call), "day": arguments.day, "period": arguments.period}
    shown = {"day": arguments.day.isoformat(), "period": arguments.period}

    async def book(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
        # Two customers who want the last place: one waits here, and finds none.
        await connection.execute(
            "select pg_advisory_xact_lock(hashtext(concat(%(tenant)s::text, %(day)s::date, "
            "%(period)s::text)))",
            values,
        )
        cursor = await connection.execute(
            """
            insert into appointment (tenant, run_id, thread_id, customer, day, period, place)
            select %(tenant)s, %(run_id)s, %(thread_id)s, %(customer)s, %(day)s, %(period)s, free
            from generate_series(1, 3) as free
            where %(day)s::date >= current_date and not exists (
                select from appointment
                where tenant = %(tenant)s and day = %(day)s and period = %(period)s
                    and place = free
            )
            order by free limit 1
            returning id
            """,
            values,
        )
        row = await cursor.fetchone()
        return shown | ({"booked": True, "id": row["id"]} if row else {"booked": False})

    return await call.context.effects.transact("book_appointment", book)


async def _insert_ticket(
    call: Call, source: str, message: str, topic: str | None
) -> dict[str, Any]:
    values = {
        **_origin(call),
        "source": source,
        "topic": topic,
        "message": message,
        "language": call.language,
    }

    async def insert(connection: AsyncConnection[DictRow]) -> dict[str, Any]:
        cursor = await connection.execute(
            """
            insert into ticket
                (tenant, run_id, thread_id, customer, source, topic, message, language)
            values (%(tenant)s, %(run_id)s, %(thread_id)s, %(customer)s, %(source)s, %(topic)s,
                    %(message)s, %(language)s)
            returning id
            """,
            values,
        )
        row = await cursor.fetchone()
        assert row is not None
        return {"ticket": row["id"]}

    return await call.context.effects.transact(f"ticket_{source}", insert)


def _origin(call: Call) -> dict[str, Any]:
    return {
        "tenant": call.context.tenant,
        "run_id": call.context.run_id,
        "thread_id": call.thread,
        "customer": call.customer,
    }


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


ORDER_STATUS = Tool(
    name="order_status",
    description="where an order is, by its number (two letters and digits).",
    arguments=OrderArguments,
    run=find_order,
    tells=wording.order,
    label={"en": "look up an order", "pt": "consultar um pedido"},
    asks_for={
        "number": {
            "en": "the order number (like AB-10442)",
            "pt": "o número do pedido (como AB-10442)",
        }
    },
)

OPEN_TICKET = Tool(
    name="open_ticket",
    description="report a problem to the help desk. topic: delivery, payment, product, account or "
    "other; message: the problem in one sentence in the customer's language; number: the order's, "
    "or null.",
    arguments=TicketArguments,
    run=open_ticket,
    tells=wording.ticket,
    label={"en": "open a ticket", "pt": "abrir um chamado"},
    asks_for={
        "topic": {"en": "what it is about", "pt": "o assunto"},
        "number": {"en": "the order number", "pt": "o número do pedido"},
        "message": {"en": "what the problem is", "pt": "qual é o problema"},
    },
    effect=True,
    confirmation=wording.confirm_ticket,
    free=frozenset({"message"}),
)

BOOK_APPOINTMENT = Tool(
    name="book_appointment",
    description="book a visit to the store. day: as the customer writes it; "
    "period: morning or afternoon.",
    arguments=AppointmentArguments,
    run=book_appointment,
    tells=wording.appointment,
    label={"en": "book a visit", "pt": "marcar uma visita"},
    asks_for={
        "day": {"en": "the day of the visit", "pt": "o dia da visita"},
        "period": {"en": "morning or afternoon", "pt": "se é de manhã ou à tarde"},
    },
    effect=True,
    confirmation=wording.confirm_appointment,
)
