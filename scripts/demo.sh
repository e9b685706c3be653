#!/usr/bin/env bash
# The main job in one minute: sign a picture with ES256 + ML-DSA-65, verify it, tamper with it, see the refusal.
set -euo pipefail
binary=$1
cd "$(dirname "$0")/.."
work=$(mktemp -d)
password=$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')
export OMT_DATA_DIR=$work/data OMT_ADMIN__PASSWORD=$password OMT_LOG__LEVEL=warn OMT_HTTP__LISTEN=${OMT_HTTP__LISTEN:-127.0.0.1:8080}
url=http://$OMT_HTTP__LISTEN
cleanup() { [ -n "${server:-}" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 0' INT TERM
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
field() { python3 -c 'import json,sys; d=json.load(sys.stdin)
for key in sys.argv[1].split("."): d=d[key]
print(d)' "$1"; }

say "1. Start the server on an empty data directory"
"$binary" serve & server=$!
for _ in $(seq 50); do curl -fs "$url/ready" >/dev/null 2>&1 && break; kill -0 "$server" 2>/dev/null || { echo "the server did not start"; exit 1; }; sleep 0.1; done
curl -fsS "$url/ready"; echo

say "2. Log in"
token=$(curl -fsS "$url/api/v1/auth/login" -H 'content-type: application/json' -d "{\"username\":\"admin\",\"password\":\"$password\"}" | field access_token)
echo "access token of ${#token} characters"

say "3. Upload demo/sample.jpg and sign it with hybrid-es256-ml-dsa-65"
curl -fsS "$url/api/v1/manifests" -H "authorization: Bearer $token" -F file=@demo/sample.jpg -F title='A sample' -F creator='OpenMediaTrust demo' -F sign=true > "$work/manifest.json"
id=$(field id < "$work/manifest.json")
echo "manifest $id, $(field signature.algorithm < "$work/manifest.json"), $(field signature.manifest_label < "$work/manifest.json")"
curl -fsS "$url/api/v1/manifests/$id/content" -H "authorization: Bearer $token" -o "$work/signed.jpg"
ls -l demo/sample.jpg "$work/signed.jpg" | awk '{print $5, $NF}'

verify() { curl -fsS "$url/api/v1/verify" -H "authorization: Bearer $token" -F "file=@$1" > "$work/report.json"
  printf 'validation_state=%s  trust_level=%s  post_quantum.state=%s\n' "$(field validation_state < "$work/report.json")" "$(field trust_level < "$work/report.json")" "$(field post_quantum.state < "$work/report.json")"; }
expect() { [ "$(field "$1" < "$work/report.json")" = "$2" ] || { echo "expected $1 = $2"; exit 1; }; }

say "4. Verify the signed copy"
verify "$work/signed.jpg"; expect validation_state trusted; expect post_quantum.state trusted

say "5. Change one byte of the picture and verify again"
python3 - "$work/signed.jpg" "$work/tampered.jpg" <<'PY'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[-1000] ^= 1
open(sys.argv[2], "wb").write(data)
PY
verify "$work/tampered.jpg"; expect validation_state invalid
python3 -c 'import json,sys; [print("  refused:", i["code"], "-", i.get("explanation","")) for i in json.load(open(sys.argv[1]))["issues"]]' "$work/report.json"

say "Done. Where to look next"
cat <<TEXT
  $url/api/docs            every operation, to try in the browser
  user admin, password $password
  $url/api/v1/trust/roots.pem   the trust anchor for other C2PA validators
  docs/hybrid-profile.md                the signature format
TEXT
if [ "${OMT_DEMO_ONCE:-}" = 1 ]; then exit 0; fi
echo; echo "The server keeps running; Ctrl-C stops it."
wait "$server"
