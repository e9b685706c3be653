#!/usr/bin/env bash
# An ES256 chain for the peer, made with OpenSSL. Usage: chain.sh DIRECTORY
set -euo pipefail
cd "$1"
openssl ecparam -name secp384r1 -genkey -noout -out root.key
openssl req -x509 -new -key root.key -sha384 -days 3650 -subj "/C=SG/O=Peer/CN=Peer Root" -out root.pem \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out key.pem
openssl req -new -key key.pem -subj "/C=SG/O=Peer/CN=Peer Signer" -out leaf.csr
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > leaf.ext
openssl x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 365 -sha256 -extfile leaf.ext -out chain.pem 2>/dev/null
