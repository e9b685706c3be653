#!/usr/bin/env bash
# Prints the figures of the README: ours beside baselines in the same run. Usage: run.sh DIRECTORY-WITH-BINARIES
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/openmediatrust
work=$(mktemp -d)
password=numbers-not-letters
pids=()
cleanup() { [ -z "${servers:-}" ] || { "$here/../tests/services/services.sh" stop "$servers" || true; rm -rf "$servers"; }; for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; rm -rf "$work"; }
trap cleanup EXIT

if [ ! -e "$cache/peer/.installed-1" ]; then
  python3 -m venv "$cache/peer"
  "$cache/peer/bin/pip" install -q --disable-pip-version-check 'c2pa-python==0.38.1' 'fastapi==0.116.1' 'uvicorn==0.35.0' 'python-multipart==0.0.20' 'httptools' 'uvloop'
  touch "$cache/peer/.installed-1"
fi
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
wait_for() { for _ in $(seq 100); do curl -s -o /dev/null "$1" && return; sleep 0.1; done; echo "no answer from $1"; exit 1; }

file=$here/sample-100k.jpg
echo "== machine: $(nproc) cores, $(date -u +%F)"
echo; echo "== in process"
"$bin/omt-bench" engine --file "$file"
"$bin/omt-bench" engine --file "$here/sample-1mp.jpg" --rounds 50 | grep thumbnail

echo; echo "== over HTTP, 16 connections, $(stat -c %s "$file") bytes JPEG"
# The peer signs with an ES256 chain of OpenSSL.
"$here/peer/chain.sh" "$work"
serve_peer() { # thumbnail flag
  port=$(free_port)
  (cd "$here/peer" && PEER_DIR=$work PEER_THUMBNAIL=$1 exec "$cache/peer/bin/uvicorn" app:app --port "$port" --workers 2 --log-level error) & peer=$!
  pids+=("$peer"); peer_url=http://127.0.0.1:$port; wait_for "$peer_url/docs"; sleep 1
}
serve_ours() { # environment...
  data=$(mktemp -d -p "$work")
  env OMT_DATA_DIR="$data" OMT_HTTP__LISTEN=127.0.0.1:0 OMT_ADMIN__PASSWORD=$password OMT_LOG__LEVEL=error "$@" "$bin/openmediatrust" serve > "$data.out" & ours=$!
  pids+=("$ours")
  for _ in $(seq 100); do grep -q listening "$data.out" && break; sleep 0.1; done
  url=$(sed -n 's/.*listening on //p' "$data.out")
  wait_for "$url/ready"
  token=$(curl -s "$url/api/v1/auth/login" -H 'content-type: application/json' -d "{\"username\":\"admin\",\"password\":\"$password\"}" | python3 -c 'import json,sys; print(json.load(sys.stdin)["access_token"])')
}
# Runs a load and keeps its rate.
load() { # name of the rate, arguments...
  local name=$1 line; shift
  line=$("$bin/omt-bench" load "$@"); echo "$line"
  printf -v "$name" '%s' "$(sed -n 's/.*: \([0-9]*\)\/s,.*/\1/p' <<< "$line")"
}
median() { printf '%s\n' "$@" | sort -n | sed -n "$(( ($# + 1) / 2 ))p"; }
# Rates that are compared are measured in turns, since this machine and how connections fall to the peer's two workers vary: three of
# five seconds each, whose medians count.
TURNS=3
turns() { # name of the first's rate, name of the second's, function that loads the first, function that loads the second
  local rates_a=() rates_b=() rate
  for _ in $(seq $TURNS); do
    "$3"; rates_a+=("$rate")
    "$4"; rates_b+=("$rate")
  done
  printf -v "$1" '%s' "$(median "${rates_a[@]}")"
  printf -v "$2" '%s' "$(median "${rates_b[@]}")"
}
ratio() { # what, ours, baseline, goal
  awk -v what="$1" -v ours="$2" -v base="$3" -v goal="$4" 'BEGIN { printf "%s: %.2f (goal at least %s)\n", what, ours / base, goal }'
}
stop() { kill "$1"; wait "$1" 2>/dev/null || true; }

serve_peer 0
curl -s -F "file=@$file" "$peer_url/sign" -o "$work/plain.jpg"
load peer_plain --name "peer sign ES256, no thumbnail, stores nothing" --operation sign --url "$peer_url/sign" --file "$file"
verifying=$peer verifying_url=$peer_url
serve_peer 1
load peer_thumb --name "peer sign ES256, default thumbnail, stores nothing" --operation sign --url "$peer_url/sign" --file "$file"
stop "$peer"

began=$(date +%s%N)
serve_ours
awk -v ns=$(($(date +%s%N) - began)) 'BEGIN { printf "first start on an empty data directory, with its PKI, until somebody is logged in: %.1f s (goal 3)\n", ns / 1e9 }'
load ours_thumb --name "ours sign hybrid + store durably, thumbnail" --operation sign --url "$url/api/v1/manifests" --file "$file" --bearer "$token" --unique
stop "$ours"
serve_ours OMT_TENANT_DEFAULTS__THUMBNAILS=false
load ours_plain --name "ours sign hybrid + store durably, no thumbnail" --operation sign --url "$url/api/v1/manifests" --file "$file" --bearer "$token" --unique
id=$(curl -s "$url/api/v1/manifests?limit=1" -H "authorization: Bearer $token" | python3 -c 'import json,sys; print(json.load(sys.stdin)["items"][0]["id"])')
curl -s "$url/api/v1/manifests/$id/content" -H "authorization: Bearer $token" -o "$work/hybrid.jpg"
load ours_cached --name "ours verify hybrid, cached" --operation verify --url "$url/api/v1/verify" --file "$work/hybrid.jpg" --bearer "$token"
stop "$ours"
# A cache of nothing: every verification is computed.
serve_ours OMT_TENANT_DEFAULTS__THUMBNAILS=false OMT_LIMITS__RESULT_CACHE_BYTES=0
id=$(curl -s "$url/api/v1/manifests" -H "authorization: Bearer $token" -F "file=@$file" -F sign=true | python3 -c 'import json,sys; print(json.load(sys.stdin)["id"])')
curl -s "$url/api/v1/manifests/$id/content" -H "authorization: Bearer $token" -o "$work/hybrid.jpg"
theirs_verifies() { load rate --name "peer verify ES256" --operation verify --url "$verifying_url/verify" --file "$work/plain.jpg" --seconds 5; }
ours_verifies() { load rate --name "ours verify hybrid, uncached" --operation verify --url "$url/api/v1/verify" --file "$work/hybrid.jpg" --bearer "$token" --seconds 5; }
turns peer_verify ours_verify theirs_verifies ours_verifies
stop "$ours"; stop "$verifying"
ratio "signing, ours / peer, both without thumbnail" "$ours_plain" "$peer_plain" 2
ratio "signing, ours / peer, both with their default thumbnails" "$ours_thumb" "$peer_thumb" 2
ratio "verifying, ours / peer" "$ours_verify" "$peer_verify" 3

echo; echo "== over HTTP on PostgreSQL, S3 and Redis, the same machine, without TLS to any of them"
services=${SERVICES:-$cache/services}
"$here/../tests/services/services.sh" install "$services"
# A place of its own, which PostgreSQL's user may enter.
servers=$(mktemp -d)
"$here/../tests/services/services.sh" start "$services" "$servers"
# shellcheck source=/dev/null
. "$servers/env"
production=("OMT_DATABASE__URL=$OMT_TEST_POSTGRES" "OMT_BLOB__URL=$OMT_TEST_S3" "OMT_QUEUE__URL=$OMT_TEST_REDIS"
  "OMT_CACHE__URL=$OMT_TEST_REDIS")
for thumbnails in true false; do
  words=$([ $thumbnails = true ] && echo "with the default thumbnails" || echo "without thumbnails")
  serve_ours OMT_TENANT_DEFAULTS__THUMBNAILS=$thumbnails
  embedded_server=$ours embedded_url=$url embedded_token=$token
  # A database of its own each time: it goes with the keys in the data directory.
  psql -q "$OMT_TEST_POSTGRES" -c "CREATE DATABASE thumbnails_$thumbnails"
  serve_ours "${production[@]}" "OMT_DATABASE__URL=${OMT_TEST_POSTGRES%/*}/thumbnails_$thumbnails?sslmode=disable" OMT_TENANT_DEFAULTS__THUMBNAILS=$thumbnails
  embedded_signs() { load rate --name "embedded, sign + store, $words" --operation sign --url "$embedded_url/api/v1/manifests" --file "$file" --bearer "$embedded_token" --unique --seconds 5; }
  services_sign() { load rate --name "PostgreSQL + S3 + Redis, sign + store, $words" --operation sign --url "$url/api/v1/manifests" --file "$file" --bearer "$token" --unique --seconds 5; }
  turns embedded on_services embedded_signs services_sign
  stop "$ours"; stop "$embedded_server"
  ratio "PostgreSQL + S3 + Redis / embedded, $words" "$on_services" "$embedded" 0.7
done

echo; echo "== memory of a server and a worker over ${UPLOADS:=10000} uploads on PostgreSQL, S3 and Redis"
resident() { awk -v field="$2" '$1 == field ":" { printf "%d", $2 / 1024 }' "/proc/$1/status"; }
psql -q "$OMT_TEST_POSTGRES" -c 'CREATE DATABASE memory'
production+=("OMT_DATABASE__URL=${OMT_TEST_POSTGRES%/*}/memory" OMT_TENANT_DEFAULTS__THUMBNAILS=false OMT_JOBS__IN_PROCESS=never)
serve_ours "${production[@]}"
env OMT_DATA_DIR="$data" OMT_LOG__LEVEL=error "${production[@]}" "$bin/openmediatrust" worker > /dev/null & worker=$!
pids+=("$worker"); sleep 2
start=("$(resident "$ours" VmRSS)" "$(resident "$worker" VmRSS)")
load uploads --name "uploads" --operation sign --url "$url/api/v1/manifests" --file "$file" --bearer "$token" --unique --requests "$UPLOADS"
echo "server: ${start[0]} MB at the start, peak $(resident "$ours" VmHWM) MB, $(resident "$ours" VmRSS) MB at the end"
echo "worker: ${start[1]} MB at the start, peak $(resident "$worker" VmHWM) MB, $(resident "$worker" VmRSS) MB at the end"
stop "$ours"; stop "$worker"

echo; echo "== background jobs that do nothing"
"$bin/omt-bench" queue --database "sqlite:$work/jobs.db" --queue "sqlite:$work/queue.db" | sed 's/^/SQLite: /'
# Databases of their own, without TLS as above.
for n in 1 2; do psql -q "$OMT_TEST_POSTGRES" -c "CREATE DATABASE jobs_$n"; done
jobs_url() { printf '%s/jobs_%s?sslmode=disable' "${OMT_TEST_POSTGRES%/*}" "$1"; }
"$bin/omt-bench" queue --database "$(jobs_url 1)" --queue "$(jobs_url 1)" | sed 's/^/PostgreSQL: /'
"$bin/omt-bench" queue --database "$(jobs_url 2)" --queue "$OMT_TEST_REDIS" | sed 's/^/PostgreSQL with Redis: /'

echo; echo "== decisions, audit log, logins"
serve_ours
"$bin/omt-bench" access --database "sqlite:$work/access.db" --url "$url" --password "$password" | sed 's/^/SQLite: /'
stop "$ours"
"$bin/omt-bench" access --database "$OMT_TEST_POSTGRES" | grep audit | sed 's/^/PostgreSQL: /'

echo; echo "== workflows and policies"
serve_ours
"$bin/omt-bench" governance --url "$url" --bearer "$token" --file "$here/../tests/fixtures/a.jpg" | sed 's/^/SQLite: /'
stop "$ours"
serve_ours "OMT_DATABASE__URL=$OMT_TEST_POSTGRES"
"$bin/omt-bench" governance --url "$url" --bearer "$token" --file "$here/../tests/fixtures/a.jpg" | grep transitions | sed 's/^/PostgreSQL: /'
stop "$ours"

echo; echo "== tier moves"
"$bin/omt-bench" moves | sed 's/^/directories: /'
"$bin/omt-bench" moves --blob "${OMT_TEST_S3/\?/\/moves?}" | sed 's/^/SeaweedFS: /'

echo; echo "== lists of ${MANIFESTS:=1000000} manifests"
"$bin/omt-bench" lists --database "sqlite:$work/lists.db" --manifests "$MANIFESTS" | sed 's/^/SQLite: /'
"$bin/omt-bench" lists --database "sqlite:$work/dry.db" --manifests 100000 --dry-run | sed 's/^/SQLite: /'
psql -q "$OMT_TEST_POSTGRES" -c 'CREATE DATABASE lists'
"$bin/omt-bench" lists --database "${OMT_TEST_POSTGRES%/*}/lists" --manifests "$MANIFESTS" | sed 's/^/PostgreSQL: /'
"$here/../tests/services/services.sh" stop "$servers"

echo; echo "== memory"
serve_ours
"$bin/omt-bench" memory --url "$url" --pid "$ours" --bearer "$token" --seed "$here/../tests/fixtures/a.mp4"
stop "$ours"
