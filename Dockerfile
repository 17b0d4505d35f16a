# Two images of one build:
#   docker build -t oss-tail .                       oss-tailer run /etc/oss-tail/service.toml; the other commands, too
#   docker build -t oss-local --target oss-local .   the server for tests, on port 9000
# Both run as nobody in particular, and with --read-only: what they write is below /data.

FROM python:3.13.1-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY man man
COPY completions completions
COPY tailer tailer
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels ".[local,service,credentials]"

FROM python:3.13.1-slim-bookworm AS installed
ENV PYTHONUNBUFFERED=1 HOME=/data
# What was built is all that there is to be installed: without an index no other version can come in.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels "oss-tail[local,service,credentials]" \
    && python -m compileall -q "$(python -c 'import tailer; print(tailer.__path__[0])')" \
    && install --directory --owner 65532 --group 65532 /data
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /data
VOLUME /data

FROM installed AS oss-local
EXPOSE 9000
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9000/-/faults', timeout=2)"]
# Inside a container every address is its own: without this nobody outside could reach it.
ENTRYPOINT ["oss-local", "--host", "0.0.0.0", "--allow-remote", "--port", "9000"]
CMD ["--root", "/data"]

FROM installed AS oss-tailer
EXPOSE 9465
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9465/healthz', timeout=2)"]
ENTRYPOINT ["oss-tailer"]
CMD ["run", "/etc/oss-tail/service.toml"]
