"""A Hugging Face hub on loopback: real HTTP for the real huggingface_hub client, with every fault a line can have.

    with Hub() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": data})
        hub.fail("model.safetensors", "cut", after=1000, times=1)
        ... HF_ENDPOINT=hub.url ...
        hub.requests    # what was asked: (method, path, headers, status)

Large files (LFS) are answered by a redirect to a second server with another name, as the hub's CDN does it."""

import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

SMALL = (".json", ".txt", ".md")  # kept by git itself; everything else is LFS


NAME = "someone/tales"

# Of 127.0.0.1, for a hundred years, signed by itself; it guards nothing.
_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/k8FeQRY26IVDveP
t7roPiPP+SppW286xiMX8rmXWpShRANCAAQSPE1XcS7r1sOVL48ldmZEgJPRt0YH
hqcUSs8xoy9mHEJuTjKh3arRG2h6QTV5iP7OSzL4nkzoP/0s7B7zdLfw
-----END PRIVATE KEY-----
"""
_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBoDCCAUagAwIBAgIUGfbyAj90YBnBaIuueFLPY7+e408wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyNTE4MzUwMloYDzIxMjYxMTAx
MTgzNTAyWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQSPE1XcS7r1sOVL48ldmZEgJPRt0YHhqcUSs8xoy9mHEJuTjKh3arR
G2h6QTV5iP7OSzL4nkzoP/0s7B7zdLfwo3QwcjAdBgNVHQ4EFgQULp/P+3gBLU++
4dV2GJ3Kx3m13aMwHwYDVR0jBBgwFoAULp/P+3gBLU++4dV2GJ3Kx3m13aMwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMA4GA1UdDwEB/wQEAwIChDAK
BggqhkjOPQQDAgNIADBFAiAL4jBn1gjvwhqBc/kmkTiLUQuGOzPz5zHsznbId2A9
ewIhAPAbw2l+gwRiZ4yTtUShHIwftSR7Kf5ptaeN0zkpEfId
-----END CERTIFICATE-----
"""


@dataclass
class Repo:
    files: dict[str, bytes]
    commit: str
    branches: tuple[str, ...]
    gated: bool
    private: bool
    downloads: int


@dataclass
class Fault:
    """What happens to requests whose path contains `where`: the `kind`, `times` times."""

    where: str
    kind: str
    times: float
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    status: int


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """Both servers, as a context manager."""

    def __init__(self):
        self.repos, self.faults, self.requests = {}, [], []
        self.token = "hf_secrettoken"
        self._hub, self._cdn = _server(_HubHandler, self), _server(_CdnHandler, self)
        self.url = f"http://127.0.0.1:{self._hub.server_port}"
        self.cdn = f"http://localhost:{self._cdn.server_port}"

    def __enter__(self):
        for server in (self._hub, self._cdn):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing = True
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()

    closing = False

    def secure(self, context):
        """From now on it speaks TLS."""
        accept = self._hub.get_request

        def wrapped():
            connection, address = accept()
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        self._hub.get_request = wrapped

    def add(self, name, files, *, branches=("main",), gated=False, private=False, downloads=1):
        """A commit with these files; its hash comes from them. The branches point at it from now on."""
        state = json.dumps({file: hashlib.sha256(data).hexdigest() for file, data in files.items()}, sort_keys=True)
        commit = hashlib.sha1(f"{name} {state}".encode()).hexdigest()
        self.repos.setdefault(name, []).append(Repo(dict(files), commit, branches, gated, private, downloads))
        return commit

    def fail(self, where, kind, *, times=float("inf"), **options):
        self.faults.append(Fault(where, kind, times, options))

    def fault(self, path):
        for fault in self.faults:
            if fault.where in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def find(self, name, revision):
        for repo in reversed(self.repos.get(name, [])):
            if revision in (repo.commit, *repo.branches):
                return repo
        return None

    def asked(self, part=""):
        return [request for request in self.requests if part in request.path]


def _server(handler, hub):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.hub = hub
    server.handle_error = lambda *_: None  # clients that went away
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", headers=(), *, length=None):
        headers = dict(headers)
        self.server.hub.requests.append(Request(self.command, self.path, dict(self.headers), status))
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def broken(self, fault):
        """Faults that need no content. True where the request was answered (or never will be)."""
        kind, options = fault.kind, fault.options
        if kind == "silent":
            while not self.server.hub.closing:
                time.sleep(0.02)
            self.close_connection = True
        elif kind == "status":
            headers = {"X-Error-Code": options["code"]} if "code" in options else {}
            headers |= options.get("headers", {})
            self.reply(options["status"], options.get("body", b"no"), headers)
        elif kind == "html":
            self.reply(200, b"<html>log in to the wireless network</html>", {"Content-Type": "text/html"})
        else:
            return False
        return True

    def send_file(self, data, headers, fault):
        """The whole of the data or the range that was asked for, damaged as the fault says."""
        kind, options = (fault.kind, fault.options) if fault else ("", {})
        if kind == "wrong bytes":
            data = bytes(byte ^ 255 for byte in data[:64]) + data[64:]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted and kind != "no range" else 0
        if wanted and start >= len(data):
            self.reply(416, headers={"Content-Range": f"bytes */{len(data)}"})
            return
        body, status = data[start:], 206 if start else 200
        if start:
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if kind in ("cut", "stall", "slow"):
            after = options.get("after", 0)
            self.server.hub.requests.append(Request(self.command, self.path, dict(self.headers), status))
            self.send_response(status)
            for key, value in (headers | {"Content-Length": len(body)}).items():
                self.send_header(key, str(value))
            self.end_headers()
            if kind == "slow":
                for place in range(0, len(body), options["block"]):
                    self.wfile.write(body[place : place + options["block"]])
                    self.wfile.flush()
                    time.sleep(options["pause"])
                return
            self.wfile.write(body[:after])
            self.wfile.flush()
            while kind == "stall" and not self.server.hub.closing:
                time.sleep(0.02)
            self.close_connection = True
        elif kind == "short":  # less than announced by the metadata, consistently
            self.reply(status, body[:-1], headers)
        elif kind == "long":
            self.reply(status, body + b"surplus", headers)
        else:
            self.reply(status, body, headers)


class _HubHandler(_Handler):
    def do_HEAD(self):
        self.do_GET()

    def do_CONNECT(self):  # where it serves as a proxy
        self.do_GET()

    def do_GET(self):
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        fault = hub.fault(f"{self.command} {path}")
        if fault and self.broken(fault):
            return
        if path == "/api/models":
            self._search()
        elif match := re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            repo = self._repo(match[1], match[2] or "main")
            if repo:
                self._info(match[1], repo)
        elif match := re.fullmatch(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo = self._repo(match[1], match[2], files=True)
            if repo:
                self._file(match[1], repo, match[3], fault)
        else:
            self.reply(404, b"{}")

    def _repo(self, name, revision, *, files=False):
        hub = self.server.hub
        authorised = self.headers.get("Authorization") == f"Bearer {hub.token}"
        known = hub.repos.get(name)
        if not known or (known[-1].private and not authorised):
            self.reply(
                401 if not authorised else 404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"}
            )
            return None
        repo = hub.find(name, revision)
        if repo is None:
            self.reply(404, b'{"error":"Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        elif files and repo.gated and not authorised:
            self.reply(401, b'{"error":"restricted"}', {"X-Error-Code": "GatedRepo"})
        else:
            return repo
        return None

    def _info(self, name, repo):
        siblings = []
        for file, data in repo.files.items():
            row = {"rfilename": file, "size": len(data), "blobId": git_hash(data)}
            if not file.endswith(SMALL):
                row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(row)
        body = {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings, "tags": [], "downloads": 0}
        body |= {"private": repo.private, "gated": "auto" if repo.gated else False}
        self.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _search(self):
        words = parse_qs(urlsplit(self.path).query).get("search", [""])[0]
        limit = int(parse_qs(urlsplit(self.path).query).get("limit", ["1000"])[0])
        found = [(name, repos[-1]) for name, repos in self.server.hub.repos.items() if words in name]
        found.sort(key=lambda item: -item[1].downloads)
        rows = [
            {
                "id": name,
                "modelId": name,
                "downloads": repo.downloads,
                "gated": "auto" if repo.gated else False,
                "tags": [],
            }
            for name, repo in found[:limit]
        ]
        self.reply(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})

    def _file(self, name, repo, file, fault):
        data = repo.files.get(file)
        headers = {"X-Repo-Commit": repo.commit}
        if data is None:
            self.reply(404, b"Entry not found", headers | {"X-Error-Code": "EntryNotFound"})
        elif file.endswith(SMALL):
            etag = {"ETag": f'"{git_hash(data)}"'}
            if self.command == "HEAD":
                self.reply(200, headers=headers | etag, length=len(data))
            else:
                self.send_file(data, headers | etag, fault)
        else:
            digest = hashlib.sha256(data).hexdigest()
            location = f"{self.server.hub.cdn}/{quote(name)}/{digest}?X-Amz-Signature=signedsecret&file={quote(file)}"
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": len(data), "Location": location}
            headers |= {"X-Xet-Hash": "f" * 64, "X-Xet-Refresh-Route": "/api/xet"}  # an offer that nobody may take
            self.reply(302, b"", headers)


class _CdnHandler(_Handler):
    def do_GET(self):
        hub = self.server.hub
        path = unquote(self.path)
        fault = hub.fault(f"CDN {path}")
        if fault and self.broken(fault):
            return
        digest = urlsplit(self.path).path.rsplit("/", 1)[-1]
        for repos in hub.repos.values():
            for repo in repos:
                for data in repo.files.values():
                    if hashlib.sha256(data).hexdigest() == digest:
                        self.send_file(data, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}, fault)
                        return
        self.reply(403, b"expired")

    do_HEAD = do_GET


@contextlib.contextmanager
def unknown(folder):
    """(URL, PEM file) of a hub by TLS, whose certificate is in the file and nowhere else."""
    (folder / "both.pem").write_text(_KEY + _CERTIFICATE)
    (folder / "certificate.pem").write_text(_CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    with Hub() as hub:
        hub.secure(context)
        yield hub.url.replace("http:", "https:"), folder / "certificate.pem"


@contextlib.contextmanager
def nobody():
    """The URL of a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def silence():
    """The URL of a server that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
