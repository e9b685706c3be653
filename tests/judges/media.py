#!/usr/bin/env python3
"""The C2PA SDK's verdict on files. Usage: media.py ROOTS.pem FILE...   One JSON line for each file."""
import json
import sys

import c2pa

anchors = open(sys.argv[1]).read()
for path in sys.argv[2:]:
    settings = c2pa.Settings.from_dict(
        {"trust": {"trust_anchors": anchors}, "verify": {"verify_trust": True, "remote_manifest_fetch": False}}
    )
    try:
        report = json.loads(c2pa.Reader(path, context=c2pa.Context(settings=settings)).json())
        failures = report.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
        verdict = {"state": report["validation_state"].lower(), "failures": [f["code"] for f in failures]}
    except Exception as error:  # unreadable is a verdict, too
        verdict = {"state": "error", "failures": [str(error)]}
    print(json.dumps({"file": path, **verdict}))
