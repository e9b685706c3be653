"""A proxy before an S3 server that fails a share of the calls: faulty_s3.py TARGET-PORT SHARE [SEED]. Prints its port.
GET /.counts says how many calls there were and how many failed."""

import http.client
import json
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

target, share = int(sys.argv[1]), float(sys.argv[2])
chance = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
HOP = {"connection", "transfer-encoding", "keep-alive"}
counts = {"calls": 0, "failed": 0}


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def fail(self, status):
        body = b"<Error><Code>SlowDown</Code><Message>as told</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self):
        self.close_connection = True
        self.connection.close()

    def say_counts(self):
        body = json.dumps(counts).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        if self.path == "/.counts":
            return self.say_counts()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        fault = chance.choice(["503", "500", "cut before", "cut after", "truncated", "slow", "wrong etag"]) if chance.random() < share else None
        counts["calls"] += 1
        counts["failed"] += fault is not None
        if fault in ("503", "500"):
            return self.fail(int(fault))
        if fault == "cut before":
            return self.cut()
        if fault == "slow":
            time.sleep(0.5)
        upstream = http.client.HTTPConnection("127.0.0.1", target, timeout=60)
        # The signature covers the Host that the client saw, so it goes on as it came.
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP:
                upstream.putheader(name, value)
        upstream.endheaders(body or None)
        answer = upstream.getresponse()
        data = answer.read()
        if fault == "cut after":
            return self.cut()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in HOP or name.lower() in ("date", "server"):
                continue
            if name.lower() == "etag" and fault == "wrong etag":
                value = '"00000000000000000000000000000000"'
            if name.lower() == "content-length" and self.command != "HEAD":
                value = str(len(data))
            self.send_header(name, value)
        if answer.getheader("Content-Length") is None and self.command != "HEAD" and answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "truncated" and len(data) > 1:
            self.wfile.write(data[: len(data) // 2])
            return self.cut()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Proxy)
print(server.server_address[1], flush=True)
server.serve_forever()
