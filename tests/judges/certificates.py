#!/usr/bin/env python3
"""Certificates judged by pkilint and, where the C2PA profile schemas are at hand, by those.

Usage: certificates.py PROFILES|- NAME.pem...   One JSON line for each certificate:
  pkilint           findings of severity ERROR and above
  profile           deviations from the profile schema; those about algorithms begin with "algorithm:"
  signed_by_issuer  whether PyCA verifies the signature (where it knows the algorithm)
"""
import json
import os
import subprocess
import sys

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

PROFILES = {"root": "rootCA", "issuer": "claimSigningIssuingCA", "leaf": "claimSigningLeaf.al1"}
USAGES = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
}


def oid(value):
    return {"oid": value.dotted_string, "name": getattr(value, "_name", "")}


def name(value):
    return [[{"type": oid(a.oid), "value": a.value} for a in rdn] for rdn in value.rdns]


def extension(ext):
    value = ext.value
    out = {}
    if isinstance(value, x509.BasicConstraints):
        out = {"cA": value.ca, "pathLenConstraint": value.path_length}
    elif isinstance(value, x509.KeyUsage):
        out = {name: getattr(value, field) for name, field in USAGES.items()}
        agreement = value.key_agreement
        out["encipherOnly"] = agreement and value.encipher_only
        out["decipherOnly"] = agreement and value.decipher_only
    elif isinstance(value, x509.SubjectKeyIdentifier):
        out = {"keyIdentifier_hex": value.digest.hex()}
    elif isinstance(value, x509.AuthorityKeyIdentifier):
        out = {"keyIdentifier_hex": value.key_identifier.hex()}
    elif isinstance(value, x509.ExtendedKeyUsage):
        out = {"extendedKeyUsage": [oid(o) for o in value]}
    elif isinstance(value, x509.CertificatePolicies):
        out = {"certificatePolicies": [{"policyIdentifier": oid(p.policy_identifier)} for p in value]}
    elif isinstance(value, x509.AuthorityInformationAccess):
        out = {
            "authorityInfoAccess": [
                {"accessMethod": oid(a.access_method), "accessLocation": {"_type": "uniformResourceIdentifier", "value": a.access_location.value}}
                for a in value
            ]
        }
    elif isinstance(value, x509.UnrecognizedExtension):
        raw = value.value
        if raw[0] == 0x06:
            arcs, number = [], 0
            for byte in raw[2:]:
                number = number << 7 | byte & 0x7F
                if not byte & 0x80:
                    arcs, number = arcs + [number], 0
            dotted = ".".join(map(str, [arcs[0] // 40, arcs[0] % 40] + arcs[1:]))
            out = {"_pyasn1_decoded": {"_asn1_type": "ObjectIdentifier", "value": dotted}}
        elif raw[0] == 0x0C:
            out = {"_pyasn1_decoded": {"_asn1_type": "UTF8String", "value": raw[2:].decode()}}
    return {"extnID": oid(ext.oid), "critical": ext.critical, "extnValue": out}


def describe(certificate):
    spki = certificate.public_key_algorithm_oid
    try:
        key = certificate.public_key()
    except Exception:
        key = None
    public = {"spki_algorithm": {"algorithm": oid(spki)}, "raw_spki_hex": ""}
    if isinstance(key, ec.EllipticCurvePublicKey):
        public |= {"curve": key.curve.name, "key_size_bits": key.key_size}
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    moment = lambda t: {"_encoding": "UTCTime", "value": t.isoformat()}
    signature = {"algorithm": oid(certificate.signature_algorithm_oid)}
    days = (end - start).total_seconds() / 86400
    return {
        "format": "certificate",
        "decoded": {
            "tbsCertificate": {
                "version": {"value": certificate.version.value},
                "serialNumber_hex": hex(certificate.serial_number),
                "signature": signature,
                "issuer": name(certificate.issuer),
                "validity": {"notBefore": moment(start), "notAfter": moment(end), "computedValidityDays": int(-(-days // 1))},
                "subject": name(certificate.subject),
                "subjectPublicKeyInfo": {"publicKey": public},
                "extensions": [extension(e) for e in certificate.extensions],
            },
            "signatureAlgorithm": signature,
            "signatureValue_hex": certificate.signature.hex(),
        },
    }


def deviations(schema, described):
    import jsonschema

    out = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(described):
        path = "/".join(map(str, error.absolute_path))
        kind = "algorithm" if "lgorithm" in path or path.endswith("publicKey") else "profile"
        out.append(f"{kind}: {path}: {error.message[:200]}")
    return out


def lint(path):
    tool = os.path.join(os.path.dirname(sys.executable), "lint_pkix_cert")
    result = subprocess.run([tool, "lint", "-s", "ERROR", "-f", "JSON", path], capture_output=True, text=True)
    report = json.loads(result.stdout)
    return [f["code"] for r in report["results"] for f in r["finding_descriptions"]]


profiles, paths = sys.argv[1], sys.argv[2:]
certificates = {os.path.basename(p)[:-4]: x509.load_pem_x509_certificate(open(p, "rb").read()) for p in paths}
for path in paths:
    label = os.path.basename(path)[:-4]
    hierarchy, role = label.split("-")
    certificate = certificates[label]
    issuer = certificates[f"{hierarchy}-{'issuer' if role == 'leaf' else 'root'}"]
    verdict = {"name": label, "pkilint": lint(path), "profile": [], "signed_by_issuer": None}
    if profiles != "-":
        with open(os.path.join(profiles, PROFILES[role] + ".cert.schema.json")) as schema:
            verdict["profile"] = deviations(json.load(schema), describe(certificate))
    try:
        key = issuer.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(certificate.signature_hash_algorithm))
        else:
            key.verify(certificate.signature, certificate.tbs_certificate_bytes)
        verdict["signed_by_issuer"] = True
    except Exception as error:
        # PyCA has no SLH-DSA; anything else that fails is a finding.
        verdict["signed_by_issuer"] = None if "nsupported" in type(error).__name__ or "nknown" in str(error) else False
    print(json.dumps(verdict))
