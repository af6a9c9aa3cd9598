# An image of her2pipe, for Docker, Podman or Buildah: `docker build -t her2pipe .` in a clone. Each RUN
# is a step of container/install, which .ci/fresh tests. For Apptainer, `make definition` writes
# container/her2pipe.def from this file.

# The site's own, pinned: --build-arg BASE=debian@sha256:...; Debian 12, or what is made from it.
ARG BASE=debian:12-slim

FROM ${BASE} AS build
# As of `git describe --tags`: a clone's history is no part of the image.
ARG VERSION=0.1.0.dev0
# cpu, cu126, ...: torch for processors alone, or for another CUDA than that of its wheel.
ARG CUDA=""
COPY . /source
WORKDIR /source
RUN container/install system build
RUN SETUPTOOLS_SCM_PRETEND_VERSION="${VERSION}" container/install package /opt/her2pipe "${CUDA}"

FROM ${BASE}
COPY container/install /source/container/install
WORKDIR /source
RUN container/install system run
RUN container/install user 1000 /study
COPY --from=build /opt/her2pipe /opt/her2pipe
ENV PATH=/opt/her2pipe/bin:/usr/local/bin:/usr/bin:/bin
# Where the machine has NVIDIA's container toolkit: its cards, for computing.
ENV NVIDIA_VISIBLE_DEVICES=all
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /study
CMD ["her2pipe", "--help"]
