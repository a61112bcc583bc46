#!/bin/sh
# Creates a CA for clients and one client certificate, valid for 30 days, in the current directory.
set -eu
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=Clients" -keyout clients-key.pem -out clients.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=Alice" -keyout alice-key.pem -out alice.csr
printf 'extendedKeyUsage=clientAuth\n' > alice.ext
openssl x509 -req -in alice.csr -CA clients.pem -CAkey clients-key.pem -CAcreateserial -days 30 -extfile alice.ext -out alice.pem
rm alice.csr alice.ext
