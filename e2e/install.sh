#!/usr/bin/env bash
# Installs what the tests need, where apt-get can; says what is missing where it cannot.
#   e2e/install.sh          everything
#   e2e/install.sh debian   what Debian has
#   e2e/install.sh source   what it has not: the end-to-end tests alone need it
# With CI=true, missing means failed; the tests themselves fail too when their program is not there.
set -u
source() {
  command -v oauth2-proxy >/dev/null 2>&1 && return
  if [ "$(id -u)" = 0 ]; then
    # What is not optimized is compiled sooner, and no test asks it to be quick. The standard library is compiled as for others.
    local root flags=()
    for root in github.com google.golang.org cloud.google.com go.opentelemetry.io golang.org k8s.io gopkg.in; do
      flags+=("-gcflags=$root/...=-N -l -dwarf=false")
    done
    CGO_ENABLED=0 GOBIN=/usr/local/bin go install "${flags[@]}" '-ldflags=-s -w' github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6 && return
  fi
  echo "missing, and not installed: oauth2-proxy" >&2
  [ "${CI:-}" != true ]
}
if [ "${1:-}" = source ]; then
  source
  exit
fi
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need curl curl
need ip iproute2
need zbarimg zbar-tools
need openssl openssl
need python3 python3
need node nodejs
/usr/bin/python3 -c "import grpc" >/dev/null 2>&1 || missing+=(python3-grpcio)
need certutil libnss3-tools
need sudo sudo
need chromium chromium
need firefox-esr firefox-esr
need Xvfb xvfb
need import imagemagick
need xdotool xdotool
need tshark tshark
need java default-jdk-headless
need keytool default-jdk-headless
need redis-server redis-server
need redis-cli redis-tools
compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || missing+=(postgresql)
need pkill procps
need psql postgresql-client
need testssl testssl.sh
need mosquitto mosquitto
need mosquitto_sub mosquitto-clients
need wget wget
need http httpie
[ -d /usr/share/nodejs/har-validator ] || missing+=(node-har-validator)
need git git
need php php-cli
need tstclnt libnss3-tools
need gnutls-cli gnutls-bin
need ldapsearch ldap-utils
need tmux tmux
need zsh zsh
need fish fish
need man man-db
need groff groff
need mandoc mandoc
need lintian lintian
need dpkg-deb dpkg
need adduser adduser
need systemd-analyze systemd
need nsenter util-linux
need prometheus prometheus
need promtool prometheus
need mosquitto_pub mosquitto-clients
need docker docker.io
need docker-compose docker-compose
need busybox busybox-static
need haproxy haproxy
need caddy caddy
need setpriv util-linux
need logrotate logrotate
[ -d /usr/share/nodejs/express ] || missing+=(node-express)
[ -e /usr/share/tomcat10/lib/catalina.jar ] || missing+=(tomcat10)
need nginx nginx-light
need php php-cli
/usr/bin/python3 -c "import flask" >/dev/null 2>&1 || missing+=(python3-flask)
/usr/bin/python3 -c "import aiohttp" >/dev/null 2>&1 || missing+=(python3-aiohttp)
need hugo hugo
need jekyll jekyll
/usr/bin/python3 -c "import django" >/dev/null 2>&1 || missing+=(python3-django)
compgen -G "/usr/share/rubygems-integration/all/specifications/railties-*.gemspec" >/dev/null || missing+=(ruby-railties puma)
need avahi-daemon avahi-daemon
compgen -G "/usr/lib/*/libnss_mdns4_minimal.so.2" >/dev/null || missing+=(libnss-mdns)
debian() {
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing: ${missing[*]}"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    # Without waiting for the disk after each file: a machine that loses power meanwhile installs again.
    apt-get update -qq && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "${missing[@]}" && return
  fi
  echo "missing, and not installed: ${missing[*]}" >&2
  [ "${CI:-}" != true ]
}
debian || exit
[ "${1:-}" = debian ] || source
