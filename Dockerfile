# The container image of sysgraft: both programs as static files, mkfs.erofs, certificates, and a shell for
# the scripts of pipelines. docs/container.md says how it is built and run. Needs BuildKit.

# Where the programs come from: "compiled" here, or "built" by `make programs` before.
ARG PROGRAMS=compiled

FROM --platform=$BUILDPLATFORM rust:1-trixie AS compiled
ARG TARGETARCH
WORKDIR /sysgraft
# Named one by one: what `make programs` left for the stage `built` must not void what is compiled here.
COPY Cargo.lock Cargo.toml Makefile ./
COPY .ci .ci
COPY benches benches
COPY src src
# The secret is a configuration of cargo's, for those whose crates come through a mirror.
RUN --mount=type=cache,id=sysgraft-crates,target=/usr/local/cargo/registry \
    --mount=type=cache,id=sysgraft-target-$TARGETARCH,target=/sysgraft/target \
    --mount=type=secret,id=cargo-config,target=/usr/local/cargo/config.toml \
    .ci/container-programs "$TARGETARCH" /programs

FROM scratch AS built
COPY target/programs /programs

FROM ${PROGRAMS} AS programs

FROM debian:trixie-slim AS root
COPY .ci/container-root /
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends busybox-static ca-certificates erofs-utils >/dev/null \
    && /container-root /image

FROM scratch
# `make image` says which ones.
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="sysgraft" \
      org.opencontainers.image.description="Turns layers of container images into signed systemd extensions" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/sysgraft/sysgraft" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=root /image /
COPY --from=programs /programs /usr/bin
WORKDIR /work
ENTRYPOINT ["/usr/bin/sysgraft"]
