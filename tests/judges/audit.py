#!/usr/bin/env python3
"""Checks proofs of the audit log from the texts of C2SP (signed-note, tlog-checkpoint, tlog-cosignature, tlog-tiles) and RFC 9162
alone. Signatures come from PyCA cryptography.

Usage: audit.py KEYS.json INCLUSION.json OLD-CHECKPOINT CONSISTENCY.json [TILES]   One line of JSON:
  signatures   how many signatures of the inclusion proof's tree head hold
  inclusion    whether the leaf is in that tree
  consistency  whether the older tree is its beginning
  tiles        with a directory of tiles: the root of all entries, recomputed, is the tree head's
"""
import base64
import hashlib
import json
import os
import struct
import sys

from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def parse_note(text):
    body, signatures = text.rsplit("\n\n", 1)
    origin, size, root = body.split("\n")
    lines = [line for line in signatures.split("\n") if line]
    assert all(line.startswith("\u2014 ") for line in lines)
    blobs = [(line.split(" ")[1], base64.b64decode(line.split(" ")[2])) for line in lines]
    return body + "\n", origin, int(size), base64.b64decode(root), blobs


def count_signatures(text, keys):
    body, origin, size, root, blobs = parse_note(text)
    held = 0
    for vkey in keys:
        name, key_id, encoded = vkey.split("+", 2)
        raw = base64.b64decode(encoded)
        identifier = sha(name.encode(), b"\n", raw)[:4]
        assert identifier.hex() == key_id
        for signer, blob in blobs:
            if signer != name or blob[:4] != identifier:
                continue
            if raw[0] == 1:
                ed25519.Ed25519PublicKey.from_public_bytes(raw[1:]).verify(blob[4:], body.encode())
            else:
                assert raw[0] == 6
                stamp, signature = blob[4:12], blob[12:]
                message = b"subtree/v1\n\0" + bytes([len(name)]) + name.encode() + stamp
                message += bytes([len(origin)]) + origin.encode() + struct.pack(">QQ", 0, size) + root
                mldsa.MLDSA44PublicKey.from_public_bytes(raw[1:]).verify(signature, message)
            held += 1
    return held


def inclusion_holds(proof):
    _, _, size, root, _ = parse_note(proof["checkpoint"])
    fn, sn = proof["index"], size - 1
    r = sha(b"\0", base64.b64decode(proof["leaf"]))
    for p in map(base64.b64decode, proof["hashes"]):
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = sha(b"\1", p, r)
            while not fn & 1 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            r = sha(b"\1", r, p)
        fn >>= 1
        sn >>= 1
    return sn == 0 and r == root and proof["size"] == size


def consistency_holds(old_text, proof):
    _, _, first, first_root, _ = parse_note(old_text)
    _, _, second, second_root, _ = parse_note(proof["checkpoint"])
    path = list(map(base64.b64decode, proof["hashes"]))
    if first == second:
        return not path and first_root == second_root
    if first & (first - 1) == 0:
        path = [first_root] + path
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = sha(b"\1", c, fr), sha(b"\1", c, sr)
            while not fn & 1 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            sr = sha(b"\1", sr, c)
        fn >>= 1
        sn >>= 1
    return sn == 0 and fr == first_root and sr == second_root


def tiles_hold(directory):
    with open(os.path.join(directory, "checkpoint"), encoding="utf-8") as file:
        _, _, size, root, _ = parse_note(file.read())

    def number(n):
        parts = [f"{n % 1000:03}"]
        while n >= 1000:
            n //= 1000
            parts.insert(0, f"x{n % 1000:03}")
        return "/".join(parts)

    leaves, n = [], 0
    while len(leaves) < size:
        width = min(256, size - 256 * n)
        path = os.path.join(directory, "tile/entries", number(n) + ("" if width == 256 else f".p/{width}"))
        with open(path, "rb") as file:
            data = file.read()
        while data:
            (length,) = struct.unpack(">H", data[:2])
            leaves.append(sha(b"\0", data[2:2 + length]))
            data = data[2 + length:]
        n += 1

    def mth(d):
        if len(d) == 1:
            return d[0]
        k = 1 << (len(d) - 1).bit_length() - 1
        return sha(b"\1", mth(d[:k]), mth(d[k:]))

    return len(leaves) == size and mth(leaves) == root


def load(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


keys, inclusion, old, consistency = sys.argv[1:5]
inclusion, consistency = json.loads(load(inclusion)), json.loads(load(consistency))
out = {
    "signatures": count_signatures(inclusion["checkpoint"], json.loads(load(keys))["keys"]),
    "inclusion": inclusion_holds(inclusion),
    "consistency": consistency_holds(load(old), consistency),
}
if len(sys.argv) > 5:
    out["tiles"] = tiles_hold(sys.argv[5])
print(json.dumps(out))
