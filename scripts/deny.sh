#!/usr/bin/env bash
# Licences, sources, banned crates and, where the advisory database can be reached, advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${XDG_CACHE_HOME:-$HOME/.cache}/openmediatrust/tools
if ! command -v cargo-deny >/dev/null && [ ! -x "$tools/bin/cargo-deny" ]; then
  CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" cargo-deny@0.20.2
fi
export PATH=$tools/bin:$PATH
# Crates of other targets are looked at too, though nothing here builds them.
cargo fetch --locked --quiet || echo "crates: what is not here already cannot be fetched"
cargo deny --offline check --hide-inclusion-graph bans licenses sources
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
  cargo deny --offline check --hide-inclusion-graph advisories
else
  echo "advisories: NOT CHECKED, the advisory database cannot be reached from here"
fi
