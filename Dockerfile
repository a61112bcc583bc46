# The same source and arguments give the same binary and the same layers: docs/docker.md tells how to check.
FROM golang:1.26 AS build
WORKDIR /src
COPY . .
ARG VERSION=dev SOURCE_DATE_EPOCH=0
# The toolchain that go.mod names and no other, whatever this image has: another makes another binary. Modules are downloaded by go build:
# only those that the program needs, which are few of go.mod's.
RUN CGO_ENABLED=0 GOTOOLCHAIN=$(awk '$1 == "toolchain" {print $2}' go.mod) \
      go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /program/padlock ./cmd/padlock \
 && mkdir -p /program/etc/padlock && mkdir -p -m 0700 /volume/data \
 && find /program /volume -exec touch -d "@${SOURCE_DATE_EPOCH}" {} +

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="padlock" \
      org.opencontainers.image.description="HTTPS in front of your app, with every TLS handshake shown stage by stage" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /program/ /
COPY --from=build --chown=65532:65532 /volume/ /
# What is published is the container's port, so local names are served beyond its loopback too.
ENV XDG_DATA_HOME=/data \
    PADLOCK_LISTEN=:443 \
    PADLOCK_HTTP=:80
VOLUME /data
WORKDIR /etc/padlock
EXPOSE 80/tcp 443/tcp 443/udp
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/padlock", "status", "--quiet"]
ENTRYPOINT ["/padlock"]
