# syntax=docker/dockerfile:1
# One static binary in an empty image. It needs no shell: everything a cluster runs in it is a subcommand.
#
#   docker buildx build --platform linux/amd64,linux/arm64 .
#   tests/image/build        without an engine, from a binary of this machine

FROM rust:1.95-slim-bookworm AS build
# The compiler and make are for aws-lc; the certificates are copied into the image.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates cmake gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/*
# It writes the list of crates into the binary, from which the bill of materials is made.
RUN cargo install --locked cargo-auditable@0.7.5
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
COPY fuzz fuzz
COPY tests tests
RUN tests/image/binary /image

FROM scratch
LABEL org.opencontainers.image.title="wechat-authz" \
      org.opencontainers.image.description="WeChat login for anything behind a gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
# Probes and hooks say `wechat-authz healthcheck`, by its name alone, and no runtime's own path has the root in it.
ENV PATH=/
USER 65532:65532
ENTRYPOINT ["/wechat-authz"]
CMD ["serve", "--config", "/etc/wechat-authz/wechat-authz.yaml"]
