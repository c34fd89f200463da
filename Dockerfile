# st3sweep with CUDA, for docs/clusters/kuberay.yaml:
#
#   docker build --tag REGISTRY/st3sweep:0.2 . && docker push REGISTRY/st3sweep:0.2
#
# Checked with hadolint; not built yet. Not needed with cluster.yaml and docs/clusters/on_premises.yaml.

# The base flavour holds the CUDA runtime; the libraries that torch needs besides come with torch.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

# A compiler and Python's headers: torch.compile builds kernels when a trial starts. wget: KubeRay's probes call it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3-dev python3-venv wget \
    && rm -rf /var/lib/apt/lists/*

# By its number, which Kubernetes can check; the image's own user ubuntu has it.
RUN mkdir -p /opt/st3sweep /shared && chown 1000:1000 /opt/st3sweep /shared
USER 1000:1000
WORKDIR /opt/st3sweep
ENV PATH=/opt/st3sweep/.venv/bin:$PATH \
    HOME=/home/ubuntu \
    RAY_AUTH_MODE=token

# The packages first: a change of the project's code leaves this layer, of some gigabytes, as it is.
COPY --chown=1000:1000 constraints.txt pyproject.toml README.md LICENSE ./
RUN mkdir -p st3sweep/util \
    && touch st3sweep/__init__.py \
    && echo '__version__ = "0"' > st3sweep/util/version.py \
    && python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --constraint constraints.txt --editable .

COPY --chown=1000:1000 st3sweep st3sweep
COPY --chown=1000:1000 search_spaces search_spaces
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --editable . \
    && .venv/bin/st3sweep --version

CMD ["st3sweep", "--help"]
