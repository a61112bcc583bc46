#!/bin/sh
# Creates the self-signed certificate of Pebble itself.
set -eu
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=pebble" \
  -addext "subjectAltName=DNS:pebble,DNS:localhost" -keyout pebble-key.pem -out pebble.pem
