#!/usr/bin/env bash
# Installs what the tests need from Debian, when missing.
set -euo pipefail
missing=()
for pair in strace:strace openssl:openssl curl:curl cc:build-essential pkg-config:pkg-config python3:python3 sqlite3:sqlite3 ps:procps; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -eq 0 ] && exit 0
sudo=; [ "$(id -u)" -eq 0 ] || sudo=sudo
echo "installing ${missing[*]}"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
