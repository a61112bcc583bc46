#!/usr/bin/env bash
# Makes stand-ins for the images that the Dockerfile and the examples name, of programs of this machine, as tests reach no registry:
#   e2e/images.sh golang:1.26 redis:7
# An image of the name that is not from here stays as it is. Those that are go by: docker image prune -a --filter label=e2e.stand-in
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/padlock-tests/go-build # servicetest.BuildCache
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT

docker info >/dev/null 2>&1 || { echo "no Docker engine answers: install docker.io, and start dockerd" >&2; exit 1; }

# shell is a root directory with a shell and users, in $root.
shell() {
  mkdir -p "$root"/{bin,etc,usr/bin,var/lib} && mkdir -m 1777 "$root/tmp"
  take "$(type -P busybox)"
  ln -s "$(type -P busybox)" "$root/bin/busybox"
  local name
  for name in $(busybox --list | grep -v '^busybox$'); do ln -s busybox "$root/bin/$name"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532:nonroot:/home/nonroot:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
}

# take copies programs and directories with the shared libraries that they need.
take() {
  local path file
  for path in "$@"; do
    mkdir -p "$root$(dirname "$path")"
    cp -rLT "$path" "$root$path"
    while read -r file; do
      [ -e "$root$file" ] || { mkdir -p "$root$(dirname "$file")" && cp -L "$file" "$root$file"; }
    done < <(find -L "$path" -type f -print0 | xargs -0 -n 50 ldd 2>/dev/null | grep -oE '(^|[[:space:]])/[^ :]+ \(0x' | sed -E 's/^[[:space:]]*//; s/ \(0x$//' | sort -u)
  done
}

# script writes a program of the image from standard input.
script() { mkdir -p "$root$(dirname "$1")" && cat >"$root$1" && chmod 0755 "$root$1"; }

# image makes an image of $root. Each argument is a line of a Dockerfile.
image() {
  local line changes=()
  for line in "$@" "LABEL e2e.stand-in=$stamp"; do changes+=(--change "$line"); done
  tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --exclude=./home/nonroot -cf "$work/image.tar" .
  [ ! -d "$root/home/nonroot" ] || tar -C "$root" --mtime=@0 --owner=65532 --group=65532 -rf "$work/image.tar" ./home/nonroot
  docker import "${changes[@]}" "$work/image.tar" "$name" >/dev/null
}

# golang has the toolchain that go.mod names, and of the modules and of what tests have compiled for releases what padlock needs: each
# further file would cost time in every step of docker build.
golang() {
  local module dir
  export GOTOOLCHAIN=$(toolchain)
  list() { (cd "$repository" && CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" GOCACHE=$cache go list -deps "$@" ./cmd/padlock); }
  shell
  mkdir -p "$root"/usr/local/go "$root"/root/.cache/go-build "$root"/root/go/pkg/mod/cache
  tar -C "$(cd "$repository" && go env GOROOT)" --exclude=./test --exclude=./api --exclude=./src/cmd --exclude=testdata --exclude='*_test.go' -cf - . |
    tar -C "$root/usr/local/go" -xf -
  module=$(go env GOMODCACHE)
  tar -C "$module" --exclude='*.zip' --exclude=cache/download/golang.org/toolchain -cf - cache/download | tar -C "$root/root/go/pkg/mod" -xf -
  {
    list -f '{{with .Module}}{{if not .Main}}{{range $.EmbedFiles}}{{$.Dir}}/{{.}}
{{end}}{{end}}{{end}}'
    list -f '{{with .Module}}{{if not .Main}}{{$.Dir}}{{end}}{{end}}' | while read -r dir; do
      [ -z "$dir" ] || find "$dir" -maxdepth 1 -type f -not -name '*_test.go'
    done
  } | sed -n "s|^$module/||p" >"$work/sources"
  tar -C "$module" -T "$work/sources" -cf - | tar -C "$root/root/go/pkg/mod" -xf -
  compiled
  image "ENV PATH=/usr/local/go/bin:/bin GOTOOLCHAIN=local GOPROXY=off GOSUMDB=off"
}

# compiled copies the compiled packages of padlock, and the entries of the cache that lead to them.
compiled() {
  local file
  list -export -f '{{.Export}}' | grep . >"$work/exports"
  xargs -n 1 basename -s -d <"$work/exports" >"$work/outputs"
  { cat "$work/exports"; grep -rlF --include='*-a' -f "$work/outputs" "$cache"; } | while read -r file; do
    mkdir -p "$root/root/.cache/go-build/$(basename "$(dirname "$file")")"
    cp "$file" "$root/root/.cache/go-build/$(basename "$(dirname "$file")")/"
  done
}

distroless() {
  mkdir -p "$root"/{etc/ssl/certs,home,usr/share} && mkdir -m 1777 "$root/tmp" && mkdir -m 0700 "$root/home/nonroot"
  printf 'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n' >"$root/etc/group"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp -r /usr/share/zoneinfo "$root/usr/share/"
  image "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" \
    "USER 65532" "WORKDIR /home/nonroot"
}

busybox_image() {
  shell
  image 'CMD ["sh"]'
}

redis() {
  shell
  take "$(type -P redis-server)"
  mkdir "$root/data"
  image "ENV PATH=/usr/bin:/bin" "WORKDIR /data" "VOLUME /data" "EXPOSE 6379" 'CMD ["redis-server"]'
}

haproxy() {
  shell
  take "$(type -P haproxy)"
  mkdir -p "$root/usr/local/etc/haproxy"
  image "ENV PATH=/usr/sbin:/usr/bin:/bin" "USER 65532" 'CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'
}

# postgres is without just-in-time compilation, which is larger than all the rest.
postgres() {
  shell
  local bin version
  bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)") version=$(basename "$(dirname "$bin")")
  take "$bin/postgres" "$bin/initdb" "$bin/pg_isready" "$(dirname "$bin")/lib/plpgsql.so" "$(dirname "$bin")/lib/dict_snowball.so" \
    "/usr/share/postgresql/$version" /usr/share/zoneinfo "$(type -P setpriv)"
  printf 'postgres:x:999:999::/var/lib/postgresql:/bin/sh\n' >>"$root/etc/passwd"
  printf 'postgres:x:999:\n' >>"$root/etc/group"
  script /entrypoint.sh <<'END'
#!/bin/sh
# Does with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB what the image of that name does.
set -e
: "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}" "${PGDATA:=/var/lib/postgresql/data}"
mkdir -p "$PGDATA" && chown 999:999 "$PGDATA" && chmod 0700 "$PGDATA"
postgres() { /usr/bin/setpriv --reuid 999 --regid 999 --clear-groups "$@"; }
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  echo "${POSTGRES_PASSWORD:?}" >/tmp/password && chown 999 /tmp/password
  postgres initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256 --no-locale -E UTF8 --no-sync
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  [ "$POSTGRES_DB" = postgres ] || echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres postgres --single -D "$PGDATA" postgres
fi
exec /usr/bin/setpriv --reuid 999 --regid 999 --clear-groups postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp
END
  image "ENV PATH=$bin:/usr/bin:/bin" "VOLUME /var/lib/postgresql/data" "EXPOSE 5432" 'ENTRYPOINT ["/entrypoint.sh"]'
}

pebble() {
  shell
  (cd "$repository" && GOTOOLCHAIN=$(toolchain) CGO_ENABLED=0 GOCACHE=$cache go build -trimpath -buildvcs=false -o "$root/app" github.com/letsencrypt/pebble/v2/cmd/pebble)
  image 'ENTRYPOINT ["/app"]'
}

toolchain() { awk '$1 == "toolchain" {print $2}' "$repository/go.mod"; }

make() {
  case $name in
    golang:*) golang ;;
    gcr.io/distroless/static-debian12:nonroot) distroless ;;
    busybox:*) busybox_image ;;
    redis:*) redis ;;
    haproxy:*) haproxy ;;
    postgres:*) postgres ;;
    ghcr.io/letsencrypt/pebble:*) pebble ;;
    *) echo "e2e/images.sh makes no image of the name $name" >&2; return 1 ;;
  esac
}

# made_of is what an image depends on, of this repository.
made_of() {
  cat "$repository/e2e/images.sh"
  case $name in golang:*) (cd "$repository" && GOTOOLCHAIN=$(toolchain) CGO_ENABLED=0 go list -deps ./cmd/padlock) ;; esac
  case $name in golang:* | *pebble:*) cat "$repository/go.mod" "$repository/go.sum" ;; esac
}

for name in "$@"; do
  stamp=$(made_of | sha256sum | cut -c 1-16)
  # padlock.stand-in is what the label was called before padlock read labels of that prefix.
  if label=$(docker image inspect --format '{{index .Config.Labels "e2e.stand-in"}}{{index .Config.Labels "padlock.stand-in"}}' "$name" 2>/dev/null); then
    [ "$label" != "" ] && [ "$label" != "$stamp" ] || continue
  fi
  root=$work/root
  rm -rf "$root" && mkdir "$root" && chmod 0755 "$root"
  make
done
