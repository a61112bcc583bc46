#!/usr/bin/env bash
# Makes a Debian package of a release's files: build.sh TREE VERSION ARCH FILE. SOURCE_DATE_EPOCH is its time, LEVEL gzip's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$1 version=${2/-/\~} arch=$3 out=$4
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

put() { install -D -m "$1" "$2" "$root$3"; }
zip() { gzip -n -9 <"$1" >"$work"; put 644 "$work" "$2"; }
work=$(mktemp)
trap 'rm -rf "$root" "$work"' EXIT

put 755 "$tree/padlock" /usr/bin/padlock
put 644 "$tree/systemd/padlock.service" /usr/lib/systemd/system/padlock.service
put 644 "$tree/systemd/padlock.socket" /usr/lib/systemd/system/padlock.socket
put 644 "$tree/padlock.yaml" /etc/padlock/padlock.yaml
zip "$tree/padlock.1" /usr/share/man/man1/padlock.1.gz
put 644 "$tree/completions/padlock.bash" /usr/share/bash-completion/completions/padlock
put 644 "$tree/completions/padlock.zsh" /usr/share/zsh/vendor-completions/_padlock
put 644 "$tree/completions/padlock.fish" /usr/share/fish/vendor_completions.d/padlock.fish
doc=/usr/share/doc/padlock
put 644 "$tree/README.md" $doc/README.md
put 644 "$tree/padlock.reference.yaml" $doc/padlock.reference.yaml
put 644 "$tree/padlock.schema.json" $doc/padlock.schema.json
put 644 "$tree/systemd/socket-only.conf" $doc/examples/socket-only.conf
zip "$tree/CHANGELOG.md" $doc/NEWS.gz
{
  echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
  echo "Files: *"
  sed -n 's/^Copyright (c) \(.*\)/Copyright: \1/p' "$tree/LICENSE"
  echo "License: Expat"
  sed '1,4d; s/^$/./; s/^/ /' "$tree/LICENSE"
} >"$work"
put 644 "$work" $doc/copyright
zip "$tree/THIRD-PARTY.txt" $doc/THIRD-PARTY.txt.gz
{
  printf 'padlock (%s) stable; urgency=medium\n\n  * What has changed stands in NEWS.gz.\n\n' "$version"
  printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' "$here/control")" "$(date -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -n -9 >"$work"
put 644 "$work" $doc/changelog.gz
put 644 "$here/lintian-overrides" /usr/share/lintian/overrides/padlock

size=$(du -k -s --apparent-size "$root" | cut -f1)
mkdir "$root/DEBIAN"
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" "$here/control" >"$root/DEBIAN/control"
echo /etc/padlock/padlock.yaml >"$root/DEBIAN/conffiles"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$root/DEBIAN"
(cd "$root" && find usr etc -type f ! -path etc/padlock/padlock.yaml -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/conffiles" "$root/DEBIAN/md5sums"
dpkg-deb --root-owner-group -Zgzip "-z${LEVEL:-9}" --build "$root" "$out" >/dev/null
