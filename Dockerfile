FROM golang:1.26 AS build
ENV GOTOOLCHAIN=auto CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /padlock ./cmd/padlock

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /padlock /padlock
ENV PADLOCK_STORAGE=/data
VOLUME /data
EXPOSE 80 443
ENTRYPOINT ["/padlock"]
