"""The gateway in OpenAI's protocol: plain ASGI, the same in `rotina serve` and `rotina gateway`.

Nothing here imports FastAPI, Celery, Redis or LangGraph: `rotina gateway serve` has to be light.
"""
