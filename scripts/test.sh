#!/usr/bin/env bash
# Starts the servers that the tests need, runs every test, then the end-to-end tests over each further combination of adapters,
# and stops the servers. Usage: test.sh CACHE
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$1
work=$(mktemp -d)
cleanup() { [ -z "${OMT_KEEP_LOGS:-}" ] || cp -r "$work" "$OMT_KEEP_LOGS"; tests/services/services.sh stop "$work" || true; rm -rf "$work"; }
trap cleanup EXIT
tests/services/services.sh install "$cache"
tests/services/services.sh start "$cache" "$work"
# shellcheck source=/dev/null
. "$work/env"
# Tests that need a service fail where it is missing, instead of being left out.
export OMT_TEST_SERVICES=1

# Much of an end-to-end test is waiting.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))}
times=()
run() { # name, command...
  local began=$SECONDS name=$1; shift
  echo "== $name"
  "$@"
  times+=("$(printf '%4d s  %s' $((SECONDS - began)) "$name")")
}
run 'build' cargo build --workspace --all-targets
run 'all tests, embedded' cargo test --workspace
# The binary is built; asking cargo again would only cost time.
suite=$(cargo test --workspace --test end_to_end --no-run --message-format=json 2>/dev/null \
  | python3 -c 'import json,sys; print(*[m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["target"]["name"] == "end_to_end"])')
for combination in ${OMT_TEST_COMBINATIONS:-sqlite-s3 sqlite-file-redis postgres-file postgres-s3 production}; do
  run "end to end, $combination" env CARGO_MANIFEST_DIR="$PWD/tests" OMT_TEST_COMBINATION="$combination" "$suite"
done
printf '%s\n' '== times' "${times[@]}"
