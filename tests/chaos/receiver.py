"""A receiver of payments as a process: a line of its log for each request.

It says `paid` for a key that is new, and `again` for one that it knows.

    python -m tests.chaos.receiver
"""

import asyncio

from aiohttp import web

KEYS: set[str] = set()


async def pay(request: web.Request) -> web.Response:
    """Take a payment, once."""
    key, number = request.headers["Idempotency-Key"], (await request.json())["number"]
    print("again" if key in KEYS else "paid", key, number, flush=True)
    KEYS.add(key)
    return web.json_response({"number": number})


async def main() -> None:
    """Serve until killed."""
    app = web.Application()
    app.router.add_post("/pay", pay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/pay", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
