#!/usr/bin/env python3
"""Checks the countersignature of profile omt-hybrid/1 in manifest stores, from docs/hybrid-profile.md alone.

Usage: hybrid.py STORE.c2pa...   One JSON line for each store. ML-DSA comes from PyCA cryptography.
"""
import json
import struct
import sys

import cbor2
from cryptography import x509


def children(data):
    """(type, body) of each box."""
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        yield kind, data[8:size]
        data = data[size:]


def labelled(superbox):
    """Label and content boxes of a superbox."""
    inner = list(children(superbox))
    description = inner[0][1]
    return description[17:].split(b"\0")[0].decode(), inner[1:]


def find(boxes, label):
    return next(content for kind, body in boxes if kind == b"jumb" for name, content in [labelled(body)] if name == label)


for path in sys.argv[1:]:
    (_, store), = children(open(path, "rb").read())
    manifests = [body for kind, body in labelled(store)[1] if kind == b"jumb"]
    manifest = labelled(manifests[-1])[1]
    claim = find(manifest, "c2pa.claim.v2")[0][1]
    protected, unprotected, _, signature = cbor2.loads(find(manifest, "c2pa.signature")[0][1]).value
    sign_protected, _, counter = unprotected[11]
    header = cbor2.loads(sign_protected)
    leaf, issuer = (x509.load_der_x509_certificate(der) for der in header[33])
    signed = cbor2.dumps(["CounterSignatureV2", protected, sign_protected, b"", claim, [signature]])
    try:
        leaf.public_key().verify(counter, signed)
        verdict = "valid"
    except Exception as error:
        verdict = type(error).__name__
    try:
        issuer.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes)
        from_issuer = True
    except Exception:
        from_issuer = False
    labels = [labelled(body)[0] for kind, body in find(manifest, "c2pa.assertions") if kind == b"jumb"]
    commitment = "org.openmediatrust.pq-commitment" in labels
    print(json.dumps({"file": path, "countersignature": verdict, "alg": header[1], "commitment": commitment, "leaf_from_issuer": from_issuer}))
