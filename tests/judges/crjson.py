#!/usr/bin/env python3
"""Whether crJSON documents satisfy the schema. Usage: crjson.py SCHEMA FILE...   One JSON line for each file."""
import json
import sys

from jsonschema.validators import validator_for

schema = json.load(open(sys.argv[1]))
validator = validator_for(schema)
validator.check_schema(schema)
for path in sys.argv[2:]:
    errors = validator(schema).iter_errors(json.load(open(path)))
    told = [f"{error.json_path}: {error.message[:200]}" for error in errors]
    print(json.dumps({"file": path, "errors": told[:20]}))
