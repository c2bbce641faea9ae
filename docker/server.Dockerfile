# The server, on a CPU:
#   docker build -f docker/server.Dockerfile -t chinese-mrc-serve .
#   docker run --rm -p 8000:8000 -e MRC_API_KEY=secret -v "$PWD/runs:/runs:ro" chinese-mrc-serve --model_name_or_path /runs/first
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY constraints.txt /constraints.txt
# torch comes first and from the index of builds for CPUs, which are a fifth of those with CUDA.
RUN python -m venv /opt/mrc \
    && grep '^torch==' /constraints.txt > /torch.txt \
    && /opt/mrc/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu -r /torch.txt
COPY . .
RUN /opt/mrc/bin/pip install --no-cache-dir -c /constraints.txt '.[serve,onnx]'

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 1000 mrc
COPY --from=build /opt/mrc /opt/mrc
ENV PATH=/opt/mrc/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/mrc
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz')"]
# SIGTERM lets it answer what was asked. Another address than this machine's needs MRC_API_KEY.
ENTRYPOINT ["chinese-mrc", "serve", "--host", "0.0.0.0", "--port", "8000"]
