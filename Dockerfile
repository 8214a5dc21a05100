# syntax=docker/dockerfile:1
# A static binary on an empty file system.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# --target keeps the flag away from build scripts and procedural macros, which cannot be linked statically.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    host=$(rustc --print host-tuple) && \
    RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --release --package headstart --bin headstart --target "$host" && \
    cp "target/$host/release/headstart" /headstart

FROM scratch
COPY --from=build /headstart /headstart
USER 65532:65532
EXPOSE 8443 8080
ENTRYPOINT ["/headstart"]
