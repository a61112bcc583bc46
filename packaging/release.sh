#!/usr/bin/env bash
# Makes a release in dist/: packaging/release.sh VERSION. TARGETS, DIST and LEVEL, which is gzip's, make another one. The same source, version and toolchain give the same bytes, wherever it is made.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?say which: make release VERSION=1.2.3}
version=${version#v}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || { echo "$version is not a version such as 1.2.3 or 1.2.3-rc.1" >&2; exit 1; }
GOTOOLCHAIN=$(awk '$1 == "toolchain" {print $2}' go.mod)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export GOTOOLCHAIN SOURCE_DATE_EPOCH CGO_ENABLED=0 LC_ALL=C TZ=UTC LEVEL=${LEVEL:-9}
umask 022

dist=${DIST:-dist}
rm -rf "$dist"
mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$version" -o "$1" ./cmd/padlock; }

# What is the same on every system comes from a binary of this one.
build "$work/padlock"
mkdir "$work/share"
"$work/padlock" man >"$work/share/padlock.1"
for shell in bash zsh fish; do "$work/padlock" completion "$shell" >"$work/share/padlock.$shell"; done

archive() { # of a directory, to a file
  tar -C "$(dirname "$1")" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -cf - "$(basename "$1")" | gzip -n "-$LEVEL" >"$2"
}

for target in ${TARGETS:-linux/amd64 linux/arm64 darwin/arm64}; do
  os=${target%/*} arch=${target#*/}
  name=padlock_${version}_${os}_$arch
  tree=$work/$name
  mkdir -p "$tree/completions"
  if [ "$target" = "$(go env GOOS)/$(go env GOARCH)" ]; then
    cp "$work/padlock" "$tree" # it is linked already
  else
    GOOS=$os GOARCH=$arch build "$tree/padlock"
  fi
  go run -trimpath ./packaging/inventory -version "$version" -sbom "$dist/$name.cdx.json" -licences "$tree/THIRD-PARTY.txt" "$tree/padlock"
  cp LICENSE README.md CHANGELOG.md "$work/share/padlock.1" docs/padlock.reference.yaml docs/padlock.schema.json "$tree"
  for shell in bash zsh fish; do cp "$work/share/padlock.$shell" "$tree/completions"; done
  if [ "$os" = linux ]; then
    cp packaging/padlock.yaml "$tree"
    cp -r packaging/systemd "$tree"
    packaging/deb/build.sh "$tree" "$version" "$arch" "$dist/padlock_${version/-/\~}_$arch.deb"
  fi
  archive "$tree" "$dist/$name.tar.gz"
done
(cd "$dist" && sha256sum -- * >SHA256SUMS)
cat "$dist/SHA256SUMS"
