# syntax=docker/dockerfile:1
# The image: the binary, the C library it needs, and nothing else. Built by BuildKit or buildah:
#
#   docker build -t surgegate .                                         compiles it
#   docker build -t surgegate --build-arg BINARY=prebuilt .             takes dist/surgegate, built on the same Debian
#
# Run: docker run -v ./surgegate.yaml:/etc/surgegate/surgegate.yaml:ro -v surgegate:/var/lib/surgegate --read-only -p 8080:8080 surgegate
ARG DEBIAN=bookworm
ARG RUST=1.95
ARG BINARY=source

FROM docker.io/library/rust:${RUST}-${DEBIAN} AS source
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin surgegate && install -D -s target/release/surgegate /out/surgegate

FROM docker.io/library/debian:${DEBIAN}-slim AS prebuilt
COPY dist/surgegate /out/surgegate

FROM ${BINARY} AS binary

# Everything that stands in the image, in /image. What scanners look for comes along: which packages its files are from.
FROM docker.io/library/debian:${DEBIAN}-slim AS root
COPY --from=binary /out/surgegate /image/usr/bin/surgegate
RUN set -eu; \
    chmod 755 /image/usr/bin/surgegate; \
    ldd /image/usr/bin/surgegate | grep -o '/[^ ]*' | sort -u | while read -r library; do \
        install -D -m 755 "$(readlink -f "$library")" "/image$library"; \
    done; \
    mkdir -p /image/var/lib/dpkg/status.d /image/etc /image/tmp /image/var/lib/surgegate; \
    for package in libc6 libgcc-s1 base-files; do dpkg -s "$package" > "/image/var/lib/dpkg/status.d/$package"; done; \
    cp /etc/os-release /image/etc/os-release; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    echo 'surgegate:x:65532:65532:Surgegate:/var/lib/surgegate:/nonexistent' > /image/etc/passwd; \
    echo 'surgegate:x:65532:' > /image/etc/group; \
    chown 65532:65532 /image/var/lib/surgegate; \
    chmod 700 /image/var/lib/surgegate; \
    chmod 1777 /image/tmp

FROM scratch
COPY --from=root /image /
LABEL org.opencontainers.image.title="Surgegate" \
      org.opencontainers.image.description="High-throughput edge ingestion proxy for incident APIs" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
# ./data of the default configuration stands on the volume.
WORKDIR /var/lib/surgegate
VOLUME /var/lib/surgegate
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/usr/bin/surgegate", "probe", "http://127.0.0.1:9464/livez"]
ENTRYPOINT ["/usr/bin/surgegate"]
CMD ["run"]
