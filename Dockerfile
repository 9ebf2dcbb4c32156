# An image of the static binary alone: no shell, no libraries, no user database.
#
# It has everything but the sandbox.
#
# From source, which is the default:
#   docker build -t enflame/gcu-upgrade-manager .
# From an executable that is there already, without any base image:
#   docker build -t enflame/gcu-upgrade-manager --target prebuilt --build-arg BINARY=dist/gcu-upgrade-manager .
#
# Where the public registries cannot be reached, give RUST_IMAGE your mirror's, and CARGO_ARGS for example
# "--config source.crates-io.replace-with=...".

ARG RUST_IMAGE=rust:1.95-bookworm

FROM scratch AS base
ARG VERSION=2.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="gcu-upgrade-manager" \
      org.opencontainers.image.description="Upgrades the Enflame GCU stack of a Kubernetes cluster without losing it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
# By number: there is no /etc/passwd, and "runAsNonRoot" wants a number.
USER 65532:65532
EXPOSE 32765
ENTRYPOINT ["/gcu-upgrade-manager"]

FROM base AS prebuilt
ARG BINARY=dist/gcu-upgrade-manager
COPY ${BINARY} /gcu-upgrade-manager

FROM ${RUST_IMAGE} AS build
ARG CARGO_ARGS=
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
COPY blueprints blueprints
# Manifests of tests and benchmarks are named in Cargo.toml.
RUN mkdir -p tests/it tests/bench && touch tests/it/main.rs tests/bench/main.rs \
    && target="$(uname -m)-unknown-linux-musl" \
    && rustup target add "$target" \
    && export "CC_$(echo "$target" | tr - _)=musl-gcc" \
    && cargo build --locked --release --no-default-features --features zones --target "$target" ${CARGO_ARGS} \
    && mv "target/$target/release/gcu-upgrade-manager" /gcu-upgrade-manager

FROM base
COPY --from=build /gcu-upgrade-manager /gcu-upgrade-manager
