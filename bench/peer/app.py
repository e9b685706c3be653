"""The baseline: a small service over c2pa-python that signs ES256 and stores nothing."""
import io
import json
import os

import c2pa
from fastapi import FastAPI, Response, UploadFile

directory = os.environ["PEER_DIR"]
chain = open(os.path.join(directory, "chain.pem"), "rb").read()
key = open(os.path.join(directory, "key.pem"), "rb").read()
anchors = open(os.path.join(directory, "root.pem")).read()
info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None)
signer = c2pa.Signer.from_info(info)
signing = c2pa.Context(settings=c2pa.Settings.from_dict({"verify": {"verify_after_sign": False}, "builder": {"thumbnail": {"enabled": os.environ.get("PEER_THUMBNAIL") == "1"}}}))
verifying = c2pa.Context(settings=c2pa.Settings.from_dict({"trust": {"trust_anchors": anchors}, "verify": {"verify_trust": True, "remote_manifest_fetch": False}}))
definition = json.dumps({
    "claim_generator_info": [{"name": "peer", "version": "1"}],
    "title": "bench",
    "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [{
        "action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation"}]}}],
})
app = FastAPI()


@app.post("/sign")
async def sign(file: UploadFile):
    source, out = io.BytesIO(await file.read()), io.BytesIO()
    c2pa.Builder(definition, context=signing).sign(signer, "image/jpeg", source, out)
    return Response(out.getvalue(), media_type="image/jpeg")


@app.post("/verify")
async def verify(file: UploadFile):
    reader = c2pa.Reader("image/jpeg", io.BytesIO(await file.read()), context=verifying)
    return Response(reader.json(), media_type="application/json")
