"""The part of check.py that runs ComfyUI's server: the workflow of docs, and the same by `neti generate`."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import check_mini_sd
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORKFLOW = ROOT / "docs/images/comfyui-workflow.png"


def levels(a, b):
    """The largest difference of two pictures, in 255ths."""
    a, b = (Image.open(p).convert("RGB") for p in (a, b))
    assert a.size == b.size, (a.size, b.size)
    return max(abs(x - y) for x, y in zip(a.tobytes(), b.tobytes()))


def check(asked, scratch, say):
    base = scratch / "base"
    for folder in ("models/checkpoints", "models/neti", "custom_nodes", "input", "output", "user"):
        (base / folder).mkdir(parents=True)
    (base / "custom_nodes/neti").symlink_to(HERE)
    (base / "custom_nodes/check_mini_sd.py").symlink_to(HERE / "check_mini_sd.py")
    check_mini_sd.write(base / "models/checkpoints/mini-sd.safetensors")
    concept = asked.concept or ROOT / "Tests/Fixtures/data/integrations/toy.safetensors"
    shutil.copy(concept, base / "models/neti/ginger.safetensors")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = (scratch / "server.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "main.py", "--cpu", "--force-fp32", "--base-directory", str(base), "--port", str(port), "--disable-api-nodes",
         "--database-url", "sqlite:///:memory:"], cwd=asked.comfyui, stdout=log, stderr=subprocess.STDOUT)
    try:
        picture = _draw(server, f"http://127.0.0.1:{port}", base, say)
    except BaseException:
        print((scratch / "server.log").read_text()[-3000:])
        raise
    finally:
        server.terminate()
        server.wait()
    if asked.keep:
        shutil.copy(picture, asked.keep)
    if asked.concept:
        say("server: the picture, against that in docs, in 255ths", levels(picture, WORKFLOW), 2)

    # ComfyUI's “simple” is what diffusers calls trailing.
    model = scratch / "mini-sd"
    shutil.copytree(ROOT / "Models/mini-sd", model)
    settings = model / "scheduler/scheduler_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"timestep_spacing": "trailing"}))
    drawn = scratch / "drawn"
    sampler, text = (_node(WORKFLOW, kind) for kind in ("KSampler", "NeTIPrompt"))
    subprocess.run(
        [asked.neti, "generate", "--model", str(model), "--concept", str(concept), "--prompt", text["text"].replace("<ginger>", "{}"),
         "--seed", str(sampler["seed"]), "--steps", str(sampler["steps"]), "--guidance", str(sampler["cfg"]), "--output", str(drawn)],
        check=True, stdout=subprocess.DEVNULL)
    own = next(p for p in drawn.iterdir() if p.name != "sheet.png")
    say("server: the picture, against that of neti generate, in 255ths", levels(picture, own), 2)


def _node(png, kind):
    return next(n["inputs"] for n in json.loads(Image.open(png).text["prompt"]).values() if n["class_type"] == kind)


def _draw(server, url, base, say):
    """Queues what the PNG in docs holds; the file that Save Image wrote."""
    def ask(path, body=None):
        request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def wait(what, call, seconds=900):
        for _ in range(seconds):
            assert server.poll() is None, "ComfyUI has ended"
            try:
                found = call()
            except OSError:
                found = None
            if found:
                return found
            time.sleep(1)
        raise TimeoutError(what)

    wait("ComfyUI does not start", lambda: ask("/system_stats"))
    nodes = [ask(f"/object_info/{n}") for n in ("LoadNeTIConcept", "NeTITruncation", "NeTIPrompt")]
    say("server: nodes that it does not list", sum(not n for n in nodes), 0)
    listed = nodes[0]["LoadNeTIConcept"]["input"]["required"]["concept"][0]
    say("server: concepts of models/neti that it does not list", len({"ginger.safetensors"} - set(listed)), 0)
    scripts = [e for e in ask("/extensions") if e.endswith("thumbnails.js")]
    say("server: pages of the pack that it does not serve", 1 - len(scripts), 0)
    stored = ask("/view_metadata/neti?filename=" + urllib.parse.quote("ginger.safetensors"))
    say("server: concepts whose file it does not show", int("neti.about" not in stored), 0)

    text = Image.open(WORKFLOW).text
    queued = ask("/prompt", {"prompt": json.loads(text["prompt"]), "extra_data": {"extra_pnginfo": {"workflow": json.loads(text["workflow"])}}})
    done = wait("the workflow does not end", lambda: ask(f"/history/{queued['prompt_id']}"))[queued["prompt_id"]]
    say("server: failed runs of the workflow", int(done["status"]["status_str"] != "success"), 0)
    image = next(i for o in done["outputs"].values() for i in o.get("images", []))
    picture = base / "output" / image["subfolder"] / image["filename"]
    saved = Image.open(picture).text
    say("server: graphs that are not in the PNG", sum(json.loads(saved[k]) != json.loads(text[k]) for k in ("prompt", "workflow")), 0)
    return picture
