#!/usr/bin/env bash
# The domain knows no HTTP, SQL, object store, cache or directory, and the outer crates do not know each other.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
outside='actix_web|actix_multipart|sea_orm|sqlx|redis|aws_config|aws_sdk|ldap3|reqwest|apalis|casbin'
if grep -rnE "^\s*(pub )?use ($outside)" domain/*/src; then echo "the domain imports the outside world"; bad=1; fi
if grep -nE "^($(echo "$outside" | tr '_' '-'))\b" domain/*/Cargo.toml; then echo "a domain crate depends on the outside world"; bad=1; fi
for crate in adapters/* workers api; do
  if grep -nE '^omt-(sql|blob|keys|queue|cache|metrics|workers|api)\.workspace' "$crate/Cargo.toml"; then echo "$crate depends on another outer crate"; bad=1; fi
done
exit $bad
