"""The cache of models: what neti fetches, huggingface_hub and diffusers find, and the other way round.

Both ask the same Hub, a server on this machine with mini-sd in it. Run by Integrations/test, after `swift build -c release`.
"""

import hashlib
import json
import os
import pty
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
NETI = Path(os.environ.get("NETI", ROOT / ".build/release/neti"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEEDED = [
    "model_defaults.json", "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
    "text_encoder/model.safetensors", "tokenizer/merges.txt", "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
# What neti must leave where it is.
OTHERS = {
    "README.md": b"# mini-sd\n", "v1.ckpt": b"pickle", "unet/diffusion_pytorch_model.bin": b"pickle",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half", "safety_checker/model.safetensors": b"checker",
    "safety_checker/config.json": b"{}", "feature_extractor/preprocessor_config.json": b"{}", "b\u00e4r/\u4e2d.txt": b"x"}


class Hub(BaseHTTPRequestHandler):
    """A small part of the Hub's API, for one repository."""

    protocol_version = "HTTP/1.1"
    files, others, asked, lock = {}, {}, [], threading.Lock()
    # Listed, and not there.
    lost = frozenset()

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        with self.lock:
            self.asked.append((self.command, path))
        parts = path.split("/")
        if path.startswith("/api/models/org/mini/tree/"):
            return self.send(json.dumps([entry(p, d) for p, d in sorted(self.files.items())]).encode())
        if path.startswith("/api/models/org/mini"):
            siblings = [{"rfilename": p} for p in sorted(self.files)]
            return self.send(json.dumps({"id": "org/mini", "sha": COMMIT, "siblings": siblings}).encode())
        if path.startswith("/org/mini/resolve/"):
            name = "/".join(parts[5:])
            data = self.files.get(name)
            if data is None or name in self.lost:
                return self.send(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            found, own = entry("", data), {"X-Repo-Commit": COMMIT}
            if "lfs" not in found:
                return self.send(data, headers={**own, "ETag": '"%s"' % found["oid"]})
            tag = found["lfs"]["oid"]
            return self.send(b"", 302, {**own, "Location": self.store + "/lfs/" + tag, "X-Linked-Etag": '"%s"' % tag,
                                        "X-Linked-Size": str(len(data))})
        if path.startswith("/lfs/"):
            data = {entry("", d).get("lfs", {}).get("oid"): d for d in self.files.values()}[parts[2]]
            return self.send(data)
        self.send(b"", 401, {"X-Error-Code": "RepoNotFound"})

    def send(self, data, status=200, headers={}):
        start = self.headers.get("Range")
        if start and status == 200:
            start = int(start.removeprefix("bytes=").split("-")[0])
            headers = {**headers, "Content-Range": "bytes %d-%d/%d" % (start, len(data) - 1, len(data))}
            data, status = data[start:], 206
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def entry(path, data):
    """A line of the list. What is larger than some kilobytes is an LFS file."""
    def git(content):
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if len(data) < 100_000:
        return {"type": "file", "path": path, "size": len(data), "oid": git(data)}
    sha = hashlib.sha256(data).hexdigest()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (sha.encode(), len(data))
    return {"type": "file", "path": path, "size": len(data), "oid": git(pointer),
            "lfs": {"oid": sha, "size": len(data), "pointerSize": len(pointer)}}


def contents(folder):
    """Every file below a folder with its bytes, links with where they lead."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


class TheCache(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if not NETI.exists():
            raise AssertionError(f"{NETI} is not there; run swift build -c release --product neti first")
        Hub.files = {p: (ROOT / "Models/mini-sd" / p).read_bytes() for p in NEEDED if (ROOT / "Models/mini-sd" / p).exists()}
        Hub.files = {**Hub.files, **OTHERS}
        cls.servers = [ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(2)]
        for server in cls.servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.address, Hub.store = ["http://127.0.0.1:%d" % s.server_address[1] for s in cls.servers]

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.shutdown()
            server.server_close()

    def setUp(self):
        self.work = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.work)
        Hub.asked.clear()

    def secure(self):
        """A Hub over TLS, whose certificate this test made: its address, and the file."""
        files = [str(self.work / name) for name in ("key.pem", "certificate.pem")]
        made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                               "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files[0], "-out",
                               files[1]], capture_output=True, text=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files[1], files[0])
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return "https://127.0.0.1:%d" % server.server_address[1], files[1]

    def environment(self, home, **more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        return {**kept, "HF_ENDPOINT": self.address, "HF_HOME": str(self.work / home), "no_proxy": "127.0.0.1",
                "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **more}

    def neti(self, home, *arguments, code=0, **more):
        done = subprocess.run([NETI, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.work,
                              env=self.environment(home, **more))
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def python(self, home, text, **more):
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=self.work,
                              env=self.environment(home, **more))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def wanted(self):
        return sorted(set(NEEDED) & set(Hub.files))

    def fetch_with_python(self, home):
        self.python(home, "from huggingface_hub import snapshot_download; "
                    f"snapshot_download('org/mini', allow_patterns={self.wanted()!r})")

    @unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
    def test_certificates_and_downgrades(self):
        address, certificate = self.secure()

        def get(**more):
            environment = self.environment("tls", HF_ENDPOINT=address, HF_TOKEN="hf_secret", **more)
            done = subprocess.run([NETI, "model", "get", "org/mini"], env=environment, capture_output=True, text=True)
            self.assertNotIn("hf_secret", done.stdout + done.stderr)
            return done
        # Nobody vouches for it: not one request reaches it.
        refused = get()
        self.assertEqual(refused.returncode, 1)
        self.assertIn("its certificate is not trusted", refused.stderr)
        self.assertEqual(Hub.asked, [])
        # Trusted, it is read; but its store is without TLS, and nothing is fetched from there.
        downgrade = get(SSL_CERT_FILE=certificate)
        self.assertEqual(downgrade.returncode, 1)
        self.assertIn("leads from https to http", downgrade.stderr)
        self.assertFalse([path for _, path in Hub.asked if path.startswith("/lfs/")])
        store, Hub.store = Hub.store, address
        self.addCleanup(setattr, Hub, "store", store)
        self.assertEqual(get(SSL_CERT_FILE=certificate).returncode, 0)

    def test_both_leave_the_same_files_links_and_references(self):
        self.neti("neti", "model", "get", "org/mini")
        paths = [p for _, p in Hub.asked if "/resolve/" in p]
        self.assertEqual(sorted(p.split(COMMIT + "/")[1] for p in paths), self.wanted())
        self.fetch_with_python("python")
        ours, theirs = contents(self.work / "neti/hub"), contents(self.work / "python/hub")
        self.assertEqual(ours, theirs)
        self.assertGreater(len(ours), 40)

    def test_what_neti_fetched_the_library_finds_offline(self):
        self.neti("home", "model", "get", "org/mini")
        Hub.asked.clear()
        found = self.python("home", "from huggingface_hub import hf_hub_download, snapshot_download, scan_cache_dir\n"
                            f"for f in {self.wanted()!r}: print(hf_hub_download('org/mini', f, local_files_only=True))\n"
                            f"snapshot_download('org/mini', local_files_only=True, allow_patterns={self.wanted()!r})\n"
                            "info = scan_cache_dir()\n"
                            "assert not info.warnings, info.warnings\n"
                            "assert [r.repo_id for r in info.repos] == ['org/mini']\n"
                            "assert [set(v.refs) for r in info.repos for v in r.revisions] == [{'main'}]\n")
        self.assertEqual(len(found.split()), len(self.wanted()))
        self.assertEqual(Hub.asked, [])
        # Online, it has nothing to fetch but what neti left out.
        self.fetch_with_python("home")
        self.assertEqual([p for m, p in Hub.asked if m == "GET" and ("/lfs/" in p or "/resolve/" in p)], [])

    def test_what_neti_fetched_diffusers_opens_offline(self):
        self.neti("home", "model", "get", "org/mini")
        Hub.asked.clear()
        made = self.python("home", "from diffusers import StableDiffusionPipeline as P\n"
                           "pipe = P.from_pretrained('org/mini', local_files_only=True, safety_checker=None, "
                           "feature_extractor=None, requires_safety_checker=False)\n"
                           "print(sum(p.numel() for p in pipe.unet.parameters()))")
        self.assertGreater(int(made.split()[-1]), 1000)
        self.assertEqual(Hub.asked, [])

    def test_what_the_library_fetched_neti_opens_without_asking(self):
        self.fetch_with_python("home")
        Hub.asked.clear()
        self.neti("home", "generate", "--prompt", "a cat", "--steps", "1", "--model", "org/mini", "--output", "out",
                  "--threads", "1", HF_ENDPOINT="http://127.0.0.1:9")
        listed = json.loads(self.neti("home", "model", "list", "--json").stdout)
        self.assertEqual([(m["model"], m["revision"], m["isComplete"]) for m in listed], [("org/mini", "main", True)])
        self.assertEqual(Hub.asked, [])
        # Nor has it anything to fetch, but for the list.
        self.neti("home", "model", "get", "org/mini")
        self.assertTrue(all(p.startswith("/api/") for _, p in Hub.asked))

    def test_what_the_hub_lists_and_lacks_both_note_alike(self):
        self.addCleanup(setattr, Hub, "lost", Hub.lost)
        Hub.lost = frozenset(["vae/config.json"])
        self.assertIn("lists \u201cvae/config.json\u201d but does not have it",
                      self.neti("neti", "model", "get", "org/mini", code=1).stderr)
        self.python("python", "from huggingface_hub import hf_hub_download\n"
                    "from huggingface_hub.errors import EntryNotFoundError\n"
                    "try: hf_hub_download('org/mini', 'vae/config.json')\n"
                    "except EntryNotFoundError: pass\n"
                    "else: raise AssertionError('it is there')\n")
        notes = [{p: kept for p, kept in contents(self.work / home / "hub").items() if "/.no_exist" in p}
                 for home in ("neti", "python")]
        self.assertEqual(notes[0], notes[1])
        self.assertIn(f"models--org--mini/.no_exist/{COMMIT}/vae/config.json", notes[0])
        # The library takes it as known, and does not ask again.
        Hub.asked.clear()
        self.python("neti", "from huggingface_hub import try_to_load_from_cache, _CACHED_NO_EXIST\n"
                    f"found = try_to_load_from_cache('org/mini', 'vae/config.json', revision={COMMIT!r})\n"
                    "assert found is _CACHED_NO_EXIST, found\n")
        self.assertEqual(Hub.asked, [])

    def test_neti_waits_for_the_lock_that_the_library_holds(self):
        self.fetch_with_python("home")
        blob = entry("", Hub.files["unet/diffusion_pytorch_model.safetensors"])["lfs"]["oid"]
        root = self.work / "home/hub"
        (root / "models--org--mini/blobs" / blob).unlink()
        lock = root / ".locks/models--org--mini" / (blob + ".lock")
        holder = subprocess.Popen(
            [sys.executable, "-c", "import sys\nfrom huggingface_hub.utils import WeakFileLock\n"
             "with WeakFileLock(sys.argv[1]):\n  print('held', flush=True); sys.stdin.readline()", lock],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(holder.stdout.readline(), "held\n")
        neti = subprocess.Popen([NETI, "model", "get", "org/mini"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, text=True, env=self.environment("home"))
        lines = []
        for line in neti.stderr:
            lines.append(line)
            if "another process fetches the same" in line:
                holder.communicate("\n")
        self.assertEqual(neti.wait(), 0, lines)
        self.assertEqual(sum("another process" in line for line in lines), 1)
        self.assertTrue((root / "models--org--mini/blobs" / blob).exists())
        holder.stdout.close()
        neti.stderr.close()

    def on_a_terminal(self, answer, *arguments):
        """What neti says on a terminal where somebody types an answer."""
        own, theirs = pty.openpty()
        neti = subprocess.Popen([NETI, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=self.work,
                                env=self.environment("home"))
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(own, 4096)
            except OSError:  # Linux says so when the other side is closed.
                break
            if not part:
                break
            said += part
            if said.endswith(b"[y/N] "):
                # The Hub was asked how large it is, and for no file.
                self.assertTrue(all(path.startswith("/api/") for _, path in Hub.asked), Hub.asked)
                os.write(own, answer.encode() + b"\n")
        os.close(own)
        return neti.wait(), said.decode()

    def test_on_a_terminal_it_asks_before_it_downloads_or_removes(self):
        line = ["generate", "--prompt", "a cat", "--steps", "1", "--model", "org/mini", "--output", "out", "--threads", "1"]
        code, said = self.on_a_terminal("n", *line)
        self.assertEqual(code, 1)
        self.assertTrue(all(path.startswith("/api/") for _, path in Hub.asked), Hub.asked)
        self.assertIn("org/mini is not here", said)
        self.assertRegex(said, r"Download \d+ MB of org/mini from 127.0.0.1:\d+ into .*, where \S+ .B are free\? ")
        self.assertIn("Add --download", said)
        code, said = self.on_a_terminal("y", *line)
        self.assertEqual(code, 0, said)
        Hub.asked.clear()
        code, said = self.on_a_terminal("", "model", "remove", "org/mini")
        self.assertIn("nothing was removed", said)
        self.neti("home", *line)
        code, said = self.on_a_terminal("yes", "model", "remove", "org/mini")
        self.assertEqual(code, 0, said)
        self.assertFalse((self.work / "home/hub/models--org--mini").exists())

    def test_what_is_removed_the_library_does_not_find(self):
        self.neti("home", "model", "get", "org/mini")
        self.assertIn("--yes", self.neti("home", "model", "remove", "org/mini", code=1).stderr)
        self.neti("home", "model", "remove", "org/mini", "--yes")
        self.assertEqual([p for p in contents(self.work / "home/hub") if "mini" in p], [])
        self.python("home", "from huggingface_hub import scan_cache_dir\nassert not scan_cache_dir().repos")


if __name__ == "__main__":
    unittest.main()
