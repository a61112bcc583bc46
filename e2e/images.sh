#!/usr/bin/env bash
# Makes stand-ins for the images that the Dockerfile and the examples name, of programs of this machine, as tests reach no registry:
#   e2e/images.sh golang:1.26 redis:7
# An image of the name that is not from here stays as it is. Those that are go by: docker image prune -a --filter label=padlock.stand-in
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT

docker info >/dev/null 2>&1 || { echo "no Docker engine answers: install docker.io, and start dockerd" >&2; exit 1; }

# shell is a root directory with a shell and users, in $root.
shell() {
  mkdir -p "$root"/{bin,etc,usr/bin,var/lib} && mkdir -m 1777 "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
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
    done < <(find "$path" -type f -print0 | xargs -0 -n 50 ldd 2>/dev/null | grep -oE '(^|[[:space:]])/[^ :]+ \(0x' | sed -E 's/^[[:space:]]*//; s/ \(0x$//' | sort -u)
  done
}

# script writes a program of the image from standard input.
script() { mkdir -p "$root$(dirname "$1")" && cat >"$root$1" && chmod 0755 "$root$1"; }

# image makes an image of $root. Each argument is a line of a Dockerfile.
image() {
  local line changes=()
  for line in "$@" "LABEL padlock.stand-in=$stamp"; do changes+=(--change "$line"); done
  tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --exclude=./home/nonroot -cf "$work/image.tar" .
  [ ! -d "$root/home/nonroot" ] || tar -C "$root" --mtime=@0 --owner=65532 --group=65532 -rf "$work/image.tar" ./home/nonroot
  docker import "${changes[@]}" "$work/image.tar" "$name" >/dev/null
}

# golang has the toolchain that go.mod names, and a proxy in a directory for the modules that it needs.
golang() {
  export GOTOOLCHAIN=$(awk '$1 == "toolchain" {print $2}' "$repository/go.mod")
  local go proxy known
  go=$(cd "$repository" && go env GOROOT)
  known="$(go env GOMODCACHE)/cache/download" proxy=$(go env GOPROXY)
  (cd "$repository" && GOTOOLCHAIN=local GOMODCACHE=$work/modules GOPROXY="file://$known,$proxy" "$go/bin/go" mod download)
  shell
  mkdir -p "$root/usr/local/go" "$root/root"
  tar -C "$go" --exclude=./test --exclude=./api -cf - . | tar -C "$root/usr/local/go" -xf -
  mv "$work/modules/cache/download" "$root/modules"
  image "ENV PATH=/usr/local/go/bin:/bin GOTOOLCHAIN=local GOPROXY=file:///modules GOSUMDB=off"
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

make() {
  case $name in
    golang:*) golang ;;
    gcr.io/distroless/static-debian12:nonroot) distroless ;;
    *) echo "e2e/images.sh makes no image of the name $name" >&2; return 1 ;;
  esac
}

for name in "$@"; do
  stamp=$(cat "$repository/e2e/images.sh" "$repository/go.mod" "$repository/go.sum" | sha256sum | cut -c 1-16)
  if label=$(docker image inspect --format '{{index .Config.Labels "padlock.stand-in"}}' "$name" 2>/dev/null); then
    [ "$label" != "" ] && [ "$label" != "$stamp" ] || continue
  fi
  root=$work/root
  rm -rf "$root" && mkdir "$root" && chmod 0755 "$root"
  make
done
