#!/usr/bin/env bash
# The domain knows no HTTP, SQL, object store, cache or directory, and the outer crates do not know each other.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
outside='actix_web|actix_multipart|sea_orm|sqlx|redis|aws_config|aws_sdk|ldap3|reqwest|apalis|casbin'
if grep -rnE "^\s*(pub )?use ($outside)" domain/*/src; then echo "the domain imports the outside world"; bad=1; fi
if grep -nE "^($(echo "$outside" | tr '_' '-'))\b" domain/*/Cargo.toml; then echo "a domain crate depends on the outside world"; bad=1; fi
outer=$(sed -nE 's/^name = "(omt-[a-z0-9-]+)"$/\1/p' adapters/*/Cargo.toml workers/Cargo.toml api/Cargo.toml | paste -sd '|')
[ "$(tr '|' '\n' <<<"$outer" | wc -l)" -eq $(($(ls -d adapters/*/ | wc -l) + 2)) ] || { echo "an outer crate has no name like omt-…"; bad=1; }
for crate in domain/* adapters/* workers api; do
  if grep -nE "^($outer)[ .=]" "$crate/Cargo.toml"; then echo "$crate depends on an outer crate"; bad=1; fi
done
exit $bad
