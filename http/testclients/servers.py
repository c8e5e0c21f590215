"""The servers that the clients talk to: a nabu of their own, and a stand-in for Keystone."""

import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

START = 60  # seconds that nabu may take to be ready
STOP = 40  # and to end


@contextlib.contextmanager
def nabu(program):
    """Runs nabu with a PostgreSQL of its own, in a folder that goes with it, and gives
    the addresses of all APIs, and of the Image API (images) and the Block Storage API (volumes)
    alone. Nothing of the caller's settings reaches it."""
    folder = tempfile.mkdtemp(prefix="nabu-clients-")
    os.chmod(folder, 0o711)  # root's nabu runs PostgreSQL as somebody else
    address, images, volumes = (f"127.0.0.1:{free_port()}" for _ in range(3))
    keys = os.path.join(folder, "keys")
    with open(keys, "wb") as file:
        file.write(subprocess.run([program, "keys", "generate", "clients"], check=True, stdout=subprocess.PIPE).stdout)
    settings = {name: value for name, value in os.environ.items()
                if not name.startswith("NABU_") or name == "NABU_PG_BIN"}
    with open(os.path.join(folder, "log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [program, "serve", "--data-dir", os.path.join(folder, "data"), "--listen", address,
             "--encryption-keys-file", keys, "--image-listen", images, "--volume-listen", volumes, "--import-allowed-hosts", "images.example",
             "--task-types", '{"resize": {"type": "object", "required": ["size"]}}'],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=settings)
        try:
            if not ready(f"http://{address}/readyz", process):
                log.seek(0)
                raise SystemExit("nabu did not get ready:\n" + log.read())
            yield {"all": f"http://{address}", "images": f"http://{images}", "volumes": f"http://{volumes}"}
        finally:
            process.terminate()
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ready(url, process):
    """Waits until nabu says that it takes requests."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    return False


@contextlib.contextmanager
def keystone(service, endpoint):
    """Stands in for Keystone: whoever asks gets a token for the project that he names,
    and a catalog in which the service, such as messaging or image, is at endpoint, which may
    have PROJECT in it. nobody may ask for projects. nabu without
    Keystone takes nothing from a token but who it says he is; the clients cannot do
    without a catalog."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if "/projects" in self.path:
                self.answer(403, {"error": {"code": 403, "title": "Forbidden", "message": "Nobody may ask for projects."}})
                return
            self.answer(200, {"version": {
                "id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
                "links": [{"rel": "self", "href": url}],
                "media-types": [{"base": "application/json",
                                 "type": "application/vnd.openstack.identity-v3+json"}]}})

        def do_POST(self):
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            named = sent["auth"]["scope"]["project"]
            project = named.get("id") or named["name"]  # tempest knows names only
            domain = {"id": "default", "name": "Default"}
            self.answer(201, {"token": {
                "methods": ["password"],
                "issued_at": "2020-01-01T00:00:00.000000Z",
                "expires_at": "2099-01-01T00:00:00.000000Z",
                "user": {"id": "somebody", "name": "somebody", "domain": domain},
                "project": {"id": project, "name": project, "domain": domain},
                "roles": [{"id": "admin", "name": "admin"}],
                "catalog": [
                    {"id": name, "name": name, "type": kind, "endpoints": [
                        {"id": name, "interface": "public", "url": address, "region": "here", "region_id": "here"}]}
                    for name, kind, address in [("nabu", service, endpoint.replace("PROJECT", project)),
                                                ("keystone", "identity", url)]]}}, token=f"somebody:{project}")

        def answer(self, status, body, token="any-token"):
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("X-Subject-Token", token)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            """The cases say what matters."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/v3"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()
