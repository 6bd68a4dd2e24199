# The two commands' set-up in a container: docker build -t rank-sweep . && docker run --rm rank-sweep
FROM python:3.11-slim-bookworm
# libnuma1: vLLM's kernels for CPUs load it. chromium: `sweep report --png`.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium libnuma1 make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /rank-sweep
COPY . .
RUN make setup && rm -rf /root/.cache/pip
CMD ["make", "sweep"]
