# A pipeline in a container: as a user who owns nothing, without a shell's help, on a root that may be read-only.
#
#   docker build -t thresher .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --memory 4g \
#       -v "$PWD/door.yaml:/config/door.yaml:ro" -v results:/data thresher run /config/door.yaml --metrics 127.0.0.1:9642
#
# Secrets come as files: --mount type=bind,src=…,dst=/run/secrets/camera,readonly and ${file:/run/secrets/camera}.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY sources sources
COPY detectors detectors
COPY sinks sinks
RUN python -m venv /opt/thresher \
    && /opt/thresher/bin/pip install --no-cache-dir --disable-pip-version-check '.[chat]'

FROM python:3.13-slim
# what OpenCV needs of the system, for sinks that draw
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin thresher \
    && install --directory --owner 10001 --group 10001 --mode 700 /data
COPY --from=build /opt/thresher /opt/thresher
ENV PATH=/opt/thresher/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    THRESHER_CACHE=/data/cache \
    HOME=/data \
    MALLOC_ARENA_MAX=2 \
    MALLOC_MMAP_THRESHOLD_=1048576
WORKDIR /data
VOLUME /data
USER 10001:10001
# an exit status of its own: asks the pipeline that runs whether its threads turn
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 CMD ["thresher", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["thresher"]
CMD ["run", "/config/thresher.yaml", "--metrics", "127.0.0.1:9642"]
