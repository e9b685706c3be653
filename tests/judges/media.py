#!/usr/bin/env python3
"""What two independent validators say of files. Usage: media.py ROOTS.pem FILE...   One JSON line for each file.

`state` and `failures` are the C2PA SDK's, `second_state` and `second_failures` those of encypher-c2pa, which shares no code with it.
"""
import json
import sys

import c2pa
import encypher_c2pa


def codes(failures):
    return [failure["code"] for failure in failures]


def sdk(path, anchors):
    trust = {"trust_anchors": anchors}
    settings = c2pa.Settings.from_dict({"trust": trust, "verify": {"verify_trust": True, "remote_manifest_fetch": False}})
    report = json.loads(c2pa.Reader(path, context=c2pa.Context(settings=settings)).json())
    return report["validation_state"], report.get("validation_results", {}).get("activeManifest", {}).get("failure", [])


def second(path, anchors):
    report = encypher_c2pa.verify(path, trust_pem=anchors, no_default_trust=True, telemetry=False, online=False)
    return report["validation_state"], report.get("validation_results", {}).get("failure", [])


def ask(judge, path, anchors):
    try:
        state, failures = judge(path, anchors)
        return state.lower().replace("-", "_"), codes(failures)
    except Exception as error:  # unreadable is a verdict, too
        return "error", [str(error)]


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        anchors = file.read()
    for path in sys.argv[2:]:
        verdict = {"file": path}
        verdict["state"], verdict["failures"] = ask(sdk, path, anchors)
        verdict["second_state"], verdict["second_failures"] = ask(second, path, anchors)
        print(json.dumps(verdict))


main()
