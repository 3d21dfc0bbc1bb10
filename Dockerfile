# syntax=docker/dockerfile:1
# One static binary in an empty image. It needs no shell: health is asked for by HTTP, everything else is a subcommand.

FROM rust:1.95-slim-bookworm AS build
# The compiler and make are for aws-lc; the certificates are copied into the image.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates cmake gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY fuzz fuzz
COPY tests tests
ARG TARGETARCH
RUN set -eu; \
    case "${TARGETARCH:-amd64}" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "no build for ${TARGETARCH}" >&2; exit 1 ;; \
    esac; \
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --bin wechat-authz --target "$target"; \
    mkdir -p /image/etc/ssl/certs /image/etc/wechat-authz; \
    cp "target/$target/release/wechat-authz" /image/wechat-authz; \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    printf 'hosts: files dns\n' > /image/etc/nsswitch.conf

FROM scratch
LABEL org.opencontainers.image.title="wechat-authz" \
      org.opencontainers.image.description="WeChat login for anything behind a gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/wechat-authz"]
CMD ["serve", "--config", "/etc/wechat-authz/wechat-authz.yaml"]
