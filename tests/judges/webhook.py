#!/usr/bin/env python3
"""Verifies a webhook with the reference library of Standard Webhooks.

Usage: webhook.py SECRET ID TIMESTAMP SIGNATURE BODY   One JSON line; the timestamp must be of the last minutes.
"""
import json
import sys

from standardwebhooks.webhooks import Webhook

secret, message, timestamp, signature, body = sys.argv[1:]
headers = {"webhook-id": message, "webhook-timestamp": timestamp, "webhook-signature": signature}
try:
    Webhook(secret).verify(body, headers)
    print(json.dumps({"valid": True}))
except Exception as error:
    print(json.dumps({"valid": False, "error": str(error)}))
