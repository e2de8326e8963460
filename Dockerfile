# A node of a cluster: `docker build --tag handoff .`
# The functions of a run need the packages that they import: `--build-arg PACKAGES="numpy pandas"`, or an image of your own
# that begins with FROM handoff.

# With the minor version of the apps, functions run on every node: see docs/environments.md.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /build
COPY requirements/project.txt requirements/
# Exact versions, whose hashes are checked, and wheels alone: nothing is compiled.
RUN pip download --no-cache-dir --only-binary=:all: --require-hashes --requirement requirements/project.txt --dest wheels
COPY pyproject.toml README.md LICENSE ./
COPY src src
# What builds the wheel stays in an environment of its own.
RUN python -m venv tools \
    && tools/bin/pip install --no-index --find-links wheels hatchling \
    && tools/bin/pip wheel --no-index --no-build-isolation --no-deps --wheel-dir wheels . \
    && pip install --no-index --find-links wheels --no-compile --prefix /installed handoff-actors

FROM python:${PYTHON_VERSION}-slim
COPY --from=build /installed /usr/local
ARG PACKAGES=""
# The image of Python has no bytecode, and nodes may not be able to write any: each worker and each probe would compile what
# it imports.
RUN if [ -n "$PACKAGES" ]; then pip install --no-cache-dir --only-binary=:all: $PACKAGES; fi \
    && python -m compileall -q -j 0 -x '/(ensurepip|idlelib|lib2to3|pip|pydoc_data|tkinter|turtledemo)/' /usr/local/lib/python3*

# Any user will do. One that is not in /etc/passwd has no other home.
ENV HOME=/tmp
USER 1000:1000
# For runs, and for adverts.
EXPOSE 7070 7071
# Its shell gives way to the node, which gets the signals that stop the container. The host name is the container's address.
CMD ["sh", "-c", "exec handoff node --listen tcp://$(hostname):7070"]
