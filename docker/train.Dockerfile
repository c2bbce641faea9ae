# Training on NVIDIA GPUs, with PyTorch:
#   docker build -f docker/train.Dockerfile -t chinese-mrc-train .
#   docker run --rm --gpus all --ipc host --user "$(id -u)" -v "$PWD:/work" chinese-mrc-train train --config my.yaml
# The wheels of torch bring CUDA; the host needs its driver and the NVIDIA container toolkit.
FROM python:3.11-slim-bookworm
WORKDIR /source
# Triton compiles what torch.compile asks for.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /constraints.txt
RUN grep '^torch==' /constraints.txt > /torch.txt && pip install --no-cache-dir -r /torch.txt
COPY . .
RUN pip install --no-cache-dir -c /constraints.txt '.[report,8bit]'
# Whoever runs it, caches lie in the mounted directory.
ENV HOME=/work PYTHONUNBUFFERED=1
WORKDIR /work
ENTRYPOINT ["chinese-mrc"]
CMD ["--help"]
