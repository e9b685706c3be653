#!/usr/bin/env bash
# The long versions of what `make test` shows in short: an S3 that fails while servers and workers are killed (10,000 uploads and
# moves), and replicas that do the same at once (10,000 requests). On PostgreSQL and S3, with and without Redis; prints figures.
# Usage: soak.sh CACHE
#   OMT_LONG=0.05                a twentieth of it
#   OMT_SOAK_COMBINATIONS=...    on these combinations of adapters
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$1
work=$(mktemp -d)
cleanup() { tests/services/services.sh stop "$work" || true; rm -rf "$work"; }
trap cleanup EXIT
tests/services/services.sh install "$cache"
tests/services/services.sh start "$cache" "$work"
# shellcheck source=/dev/null
. "$work/env"
export OMT_TEST_SERVICES=1 OMT_LONG=${OMT_LONG:-1}
# The whole workspace each time: of one package alone, dependencies would be built anew with other features.
cargo build --workspace --bins
for combination in ${OMT_SOAK_COMBINATIONS:-postgres-s3 production}; do
  OMT_TEST_COMBINATION=$combination cargo test --workspace --test end_to_end -- --nocapture --test-threads 1 \
    --exact failing_s3::a_failing_s3_loses_nothing faults::replicas_act_once
done
