#!/bin/sh
# Makes the tokens beside this file with OpenSSL: an authority under a root and an issuer, and what it answers about `message`.
set -eu
cd "$(dirname "$0")"
out=$PWD
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"
days=36500
subject() { echo "/C=MY/O=OpenMediaTrust Tests/CN=$1"; }
openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days $days -subj "$(subject 'Time Root')" \
  -addext keyUsage=critical,keyCertSign 2> /dev/null
issue() { # name, key options, issuer, extensions
  openssl req -newkey $2 -nodes -keyout "$1.key" -out "$1.csr" -subj "$(subject "$1")" 2> /dev/null
  printf '%s\n' "$4" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$3.pem" -CAkey "$3.key" -CAcreateserial -days $days -extfile "$1.ext" -out "$1.pem" 2> /dev/null
}
ec="ec -pkeyopt ec_paramgen_curve:P-256"
ca="basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign"
stamps="keyUsage=critical,digitalSignature
extendedKeyUsage=critical,timeStamping"
issue issuer "$ec" root "$ca"
issue authority "$ec" issuer "$stamps"
issue rsa rsa:2048 issuer "$stamps"
# One that may sign other things too, one that is not marked, and one whose issuer may not issue.
issue mixed "$ec" issuer "keyUsage=critical,digitalSignature
extendedKeyUsage=critical,timeStamping,emailProtection"
issue unmarked "$ec" issuer "keyUsage=critical,digitalSignature
extendedKeyUsage=timeStamping"
issue upstart "$ec" authority "$stamps"
printf 'what is stamped' > message
cat issuer.pem root.pem > chain.pem
cat authority.pem chain.pem > upstart-chain.pem
stamp() { # output, signer, chain
  cat > ts.cnf <<CONF
[tsa]
default_tsa = t
[t]
serial = ./serial
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
CONF
  echo 01 > serial
  openssl ts -query -data message -sha256 -cert -out query 2> /dev/null
  openssl ts -reply -queryfile query -signer "$2.pem" -inkey "$2.key" -chain "$3" -config ts.cnf -section t -out "$out/$1.tsr" 2> /dev/null
}
stamp ecdsa authority chain.pem
stamp rsa rsa chain.pem
stamp upstart upstart upstart-chain.pem
# OpenSSL does not let the other two sign.
cp root.pem issuer.pem authority.pem mixed.pem unmarked.pem message "$out"
