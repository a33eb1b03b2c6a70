# syntax=docker/dockerfile:1
# One image for the workers, the scheduler and the migrations; docker-compose.yml gives commands.

FROM python:3.12-slim-trixie AS build
ENV UV_PYTHON=/usr/local/bin/python3.12 \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/rotina \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy
WORKDIR /build
COPY .ci/uv.txt .ci/
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement .ci/uv.txt
# The dependencies first: a change in the code below leaves this layer as it is. Only wheels, and
# only those of the lock: there is no compiler here.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-dev --no-install-project --no-build
COPY README.md LICENSE ./
COPY src src
COPY agents agents
COPY workflows workflows
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-dev --no-editable

FROM python:3.12-slim-trixie
RUN groupadd --system --gid 10001 rotina \
    && useradd --system --uid 10001 --gid rotina --home-dir /app --no-create-home rotina \
    && install --directory --owner rotina --group rotina --mode 0700 /var/lib/rotina
COPY --from=build /opt/rotina /opt/rotina
WORKDIR /app
COPY pyproject.toml ./
COPY agents agents
COPY workflows workflows
COPY workers workers
# The project's modules are imported from /app, which belongs to root: nobody rewrites them.
ENV PATH=/opt/rotina/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ROTINA_DATA_DIR=/var/lib/rotina
USER 10001:10001
# What healthy means depends on the command, so docker-compose.yml says it for each service.
HEALTHCHECK NONE
ENTRYPOINT ["rotina"]
CMD ["--help"]
