# syntax=docker/dockerfile:1
# Two stages: what builds stays behind. docs/deploy/README.md says how it is run.

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/sessiond
WORKDIR /src
# The locked packages first: they change less often than the program.
COPY requirements.lock ./
RUN /opt/sessiond/bin/pip install --require-hashes --only-binary :all: --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY actors actors
COPY migrations migrations
COPY persistence persistence
COPY web web
RUN /opt/sessiond/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
# bubblewrap confines the commands of models where the host lets it; Landlock does elsewhere.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 10001 sessiond \
    && useradd --system --uid 10001 --gid sessiond --home-dir /var/lib/sessiond --no-create-home sessiond \
    && install --directory --owner sessiond --group sessiond --mode 0700 /var/lib/sessiond
COPY --from=build /opt/sessiond /opt/sessiond
ENV PATH=/opt/sessiond/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SESSIOND_BIND=0.0.0.0 \
    SESSIOND_PORT=8787 \
    SESSIOND_DATABASE_URL=sqlite:////var/lib/sessiond/sessiond.db \
    SESSIOND_WORKSPACES_DIR=/var/lib/sessiond/workspaces
WORKDIR /var/lib/sessiond
USER 10001:10001
VOLUME /var/lib/sessiond
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['SESSIOND_PORT'] + '/health', timeout=4)"]
ENTRYPOINT ["sessiond"]
CMD ["serve"]
