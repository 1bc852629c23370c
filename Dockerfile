# Two images: `operator` (small, no torch) and `trainer` (the four stages).
#
#   docker build --target operator -t alignment-operator:dev .
#   docker build --target trainer  -t alignment-trainer:dev .
#
# Both are built from the hashed requirements and run as any user, also one without a name, with a read-only root
# file system (writable: /tmp). Layers, from rarely to often changed: base, dependencies, our code.
#
# The base's tag moves with its security updates. Name it by digest to get the same bytes again:
#
#   docker buildx imagetools inspect python:3.12-slim-bookworm --format '{{.Manifest.Digest}}'
#   docker build --build-arg BASE_IMAGE=docker.io/library/python@sha256:... --target operator .
ARG BASE_IMAGE=docker.io/library/python:3.12-slim-bookworm

# Our code as a virtual environment without dependencies; the final stages lay it over theirs.
FROM ${BASE_IMAGE} AS code
# A certificate bundle mounted over this path is honoured: builds behind a proxy need their own.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
COPY requirements/build.txt /build.txt
RUN python3 -m venv /opt/tools && \
    /opt/tools/bin/pip install --quiet --no-cache-dir --require-hashes --requirement /build.txt
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY operator operator
COPY trainer trainer
COPY cli cli
RUN export SOURCE_DATE_EPOCH=315532800 PATH=/opt/tools/bin:$PATH && \
    uv build --quiet --no-build-isolation --wheel --out-dir /wheel && \
    uv venv --quiet --python python3 /opt/venv && \
    uv pip install --quiet --offline --no-deps --compile-bytecode --python /opt/venv/bin/python /wheel/*.whl

FROM ${BASE_IMAGE} AS runtime
# kopf asks for a user name and transformers for a home; a numeric user has neither.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin USER=alignment HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp

FROM runtime AS operator
RUN --mount=type=bind,source=requirements/operator.txt,target=/requirements.txt \
    --mount=type=bind,source=requirements/build.txt,target=/build.txt \
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt && \
    python3 -m venv /tmp/uv && /tmp/uv/bin/pip install --quiet --no-cache-dir --require-hashes --requirement /build.txt && \
    /tmp/uv/bin/uv venv --quiet --python python3 /opt/venv && \
    /tmp/uv/bin/uv pip sync --quiet --no-cache --compile-bytecode --require-hashes --python /opt/venv/bin/python /requirements.txt && \
    rm -rf /tmp/uv
COPY --from=code /opt/venv /opt/venv
USER 65532:65532
ENTRYPOINT ["alignment-operator"]

FROM runtime AS trainer
RUN --mount=type=bind,source=requirements/trainer.txt,target=/requirements.txt \
    --mount=type=bind,source=requirements/build.txt,target=/build.txt \
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt && \
    python3 -m venv /tmp/uv && /tmp/uv/bin/pip install --quiet --no-cache-dir --require-hashes --requirement /build.txt && \
    /tmp/uv/bin/uv venv --quiet --python python3 /opt/venv && \
    /tmp/uv/bin/uv pip sync --quiet --no-cache --compile-bytecode --require-hashes --python /opt/venv/bin/python /requirements.txt && \
    rm -rf /tmp/uv
COPY --from=code /opt/venv /opt/venv
USER 65532:65532
ENTRYPOINT ["alignment-trainer"]
