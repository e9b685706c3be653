#!/usr/bin/env bash
# Installs the independent validators that the tests use from PyPI. Usage: judges.sh DIRECTORY
set -euo pipefail
directory=$1
stamp=$directory/.installed-3
[ -e "$stamp" ] && exit 0
python3 -m venv "$directory"
"$directory/bin/pip" install -q --disable-pip-version-check \
  'c2pa-python==0.38.1' 'encypher-c2pa==1.7.1' 'pkilint==0.13.3' 'cryptography==50.0.2' 'cbor2==5.6.5' 'jsonschema==4.23.0' 'standardwebhooks==1.1.0'
touch "$stamp"
