"""Small picture files of every kind, and what Pillow makes of them.

index.json names each file with the size and place of its RGB values in expected.bin, and lists resizes, crops and
the scaling to -1..1. PNG files of kinds that Pillow cannot write are written here by hand.
"""
import io, json, struct, zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps, PngImagePlugin


class Expected:
    """Arrays one after another in one file."""

    def __init__(self):
        self.data = bytearray()

    def add(self, array: np.ndarray) -> int:
        at = len(self.data)
        self.data += np.ascontiguousarray(array).tobytes()
        return at


def scene(w: int, h: int) -> Image.Image:
    """Something asymmetrical with smooth parts, edges and saturated colours."""
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([255 * x / (w - 1), 255 * y / (h - 1), 127 + 120 * np.sin(x / 3 + y / 5)], -1).astype(np.uint8)
    im = Image.fromarray(a)
    d = ImageDraw.Draw(im)
    d.rectangle((2, 2, w // 3, h // 2), fill=(250, 20, 30))
    d.ellipse((w // 2, h // 3, w - 3, h - 2), fill=(10, 40, 240))
    d.line((0, h - 1, w - 1, 0), fill=(255, 255, 255))
    return im


def on_white(im: Image.Image) -> Image.Image:
    rgba = im.convert("RGBA")
    white = Image.new("RGB", im.size, (255, 255, 255))
    white.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    return white


# ---- PNG by hand: any colour type and depth, filters, Adam7

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(row: np.ndarray, depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = "".join(format(int(v), f"0{depth}b") for v in row.reshape(-1))
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


def filtered(lines: list[bytes], bpp: int) -> bytes:
    """Each filter type in turn."""
    out = bytearray()
    before = bytes(len(lines[0])) if lines else b""
    for n, line in enumerate(lines):
        kind = n % 5
        out.append(kind)
        for i, v in enumerate(line):
            a = line[i - bpp] if i >= bpp else 0
            b = before[i]
            c = before[i - bpp] if i >= bpp else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            out.append((v - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
        before = line
    return bytes(out)


def png(samples: np.ndarray, kind: int, depth: int, interlace=False, extra=b"") -> bytes:
    h, w = samples.shape[:2]
    samples = samples.reshape(h, w, CHANNELS[kind])
    bpp = max(1, CHANNELS[kind] * depth // 8)
    passes = ADAM7 if interlace else [(0, 0, 1, 1)]
    raw = b""
    for x, y, dx, dy in passes:
        part = samples[y::dy, x::dx]
        if part.size:
            raw += filtered([packed(r, depth) for r in part], bpp)
    body = zlib.compress(raw, 9)
    header = struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, int(interlace))
    # Two data chunks, as large files have many.
    data = chunk(b"IDAT", body[:50]) + chunk(b"IDAT", body[50:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + data + chunk(b"IEND", b"")


def png_files(rng) -> dict[str, tuple[bytes, np.ndarray | None]]:
    """File → bytes and, where Pillow is not asked, the RGB values."""
    out = {}
    w, h = 19, 13

    def random(kind, depth):
        return rng.integers(0, 1 << depth, (h, w, CHANNELS[kind]))

    palette = rng.integers(0, 256, (16, 3)).astype(np.uint8).tobytes()
    plte = chunk(b"PLTE", palette)
    for depth in (1, 2, 4, 8):
        out[f"grey{depth}.png"] = (png(random(0, depth), 0, depth), None)
    for depth in (1, 2, 4):
        p = plte[:0] + chunk(b"PLTE", palette[: 3 << depth])
        out[f"palette{depth}.png"] = (png(random(3, depth), 3, depth, extra=p), None)
    out["palette8-trns.png"] = (
        png(rng.integers(0, 16, (h, w, 1)), 3, 8, extra=plte + chunk(b"tRNS", bytes(range(0, 240, 30)))), None)
    out["palette4-interlaced.png"] = (png(random(3, 4), 3, 4, True, plte), None)
    for name, kind in (("rgb", 2), ("grey-alpha", 4), ("rgba", 6)):
        out[f"{name}8.png"] = (png(random(kind, 8), kind, 8), None)
        out[f"{name}8-interlaced.png"] = (png(random(kind, 8), kind, 8, True), None)
    s = random(2, 8)
    s[::2, ::3] = (1, 2, 3)
    out["rgb8-trns.png"] = (png(s, 2, 8, extra=chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))), None)
    s = random(0, 8)
    s[::2, ::3] = 77
    out["grey8-trns.png"] = (png(s, 0, 8, extra=chunk(b"tRNS", struct.pack(">H", 77))), None)
    # Gamma, chromaticities and an intent must change nothing.
    gamma = chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(
        b"cHRM", struct.pack(">8I", 31270, 32900, 70000, 30000, 20000, 70000, 15000, 6000))
    out["rgb8-gamma.png"] = (png(random(2, 8), 2, 8, extra=gamma), None)
    out["grey8-gamma.png"] = (png(random(0, 8), 0, 8, extra=gamma), None)

    # 16 bits: what shows on white, then the high byte. Pillow agrees where it has such a mode.
    def deep(kind, interlace=False, extra=b""):
        s = random(kind, 16)
        data = png(s, kind, 16, interlace, extra)
        colour = s[..., :3] if kind in (2, 6) else np.repeat(s[..., :1], 3, -1)
        if kind in (4, 6):
            alpha = s[..., -1:] / 65535
            colour = np.floor(colour * alpha + 65535 * (1 - alpha) + 0.5).astype(int)
        return data, (colour >> 8).astype(np.uint8)

    out["grey16.png"] = deep(0)
    out["grey16-gamma.png"] = deep(0, extra=gamma)
    data, rgb = deep(2)
    assert np.array_equal(np.array(Image.open(io.BytesIO(data)).convert("RGB")), rgb)
    out["rgb16.png"] = (data, rgb)
    out["rgb16-interlaced.png"] = deep(2, True)
    out["grey-alpha16.png"] = deep(4)
    data, rgb = deep(6)
    # Pillow cuts to 8 bits before it composites, we after.
    assert np.abs(np.array(on_white(Image.open(io.BytesIO(data)))).astype(int) - rgb).max() <= 2
    out["rgba16.png"] = (data, rgb)
    out["tiny.png"] = (png(np.array([[[9, 8, 7]]]), 2, 8), None)
    return out


def saved(im: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    im.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    e = Image.Exif()
    e[0x0112] = orientation
    return e.tobytes()


def jpeg_files() -> dict[str, bytes]:
    im = scene(37, 29)
    out = {"grey.jpg": saved(im.convert("L"), "JPEG", quality=90)}
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        out[f"rgb{name}.jpg"] = saved(im, "JPEG", quality=90, subsampling=subsampling)
    out["progressive.jpg"] = saved(im, "JPEG", quality=85, progressive=True, optimize=True)
    out["stored-rgb.jpg"] = saved(im, "JPEG", quality=90, keep_rgb=True)
    out["restart.jpg"] = saved(im, "JPEG", quality=75, restart_marker_blocks=2)
    rgb = np.array(im).astype(int)
    k = 255 - rgb.max(-1)
    cmyk = np.concatenate([255 - rgb - k[..., None], k[..., None]], -1).astype(np.uint8)
    data = saved(Image.frombytes("CMYK", im.size, cmyk.tobytes()), "JPEG", quality=95)
    out["cmyk.jpg"] = data
    # The same values taken as YCCK: Adobe's marker ends with the kind of transform.
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    out["ycck.jpg"] = data[:at] + b"\x02" + data[at + 1:]
    for o in range(1, 9):
        out[f"orientation{o}.jpg"] = saved(scene(21, 13), "JPEG", quality=90, exif=exif(o))
    big = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"
    out["orientation6-big-endian.jpg"] = saved(scene(21, 13), "JPEG", quality=90, exif=big)
    return out


def webp_files() -> dict[str, bytes]:
    im = scene(37, 29)
    rgba = im.copy()
    rgba.putalpha(Image.fromarray((np.mgrid[0:29, 0:37][1] * 7 % 256).astype(np.uint8)))
    return {
        "lossy.webp": saved(im, "WEBP", quality=80),
        "lossless.webp": saved(im, "WEBP", lossless=True),
        "lossy-alpha.webp": saved(rgba, "WEBP", quality=80),
        "lossless-alpha.webp": saved(rgba, "WEBP", lossless=True),
        "orientation5.webp": saved(scene(21, 13), "WEBP", lossless=True, exif=exif(5)),
    }


def as_seen(data: bytes) -> np.ndarray:
    im = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    has_alpha = "A" in im.mode or "transparency" in im.info
    return np.array(on_white(im) if has_alpha else im.convert("RGB"))


def make(out: Path):
    rng = np.random.default_rng(7)
    expected = Expected()
    files = {name: (data, None) for name, data in {**jpeg_files(), **webp_files()}.items()}
    files.update(png_files(rng))
    files["orientation8.png"] = (saved(scene(21, 13), "PNG", exif=exif(8)), None)
    pictures = []
    for name, (data, rgb) in files.items():
        (out / name).write_bytes(data)
        rgb = as_seen(data) if rgb is None else rgb
        pictures.append({"file": name, "width": rgb.shape[1], "height": rgb.shape[0], "offset": expected.add(rgb)})

    frames = [scene(16, 16), scene(16, 16).rotate(90)]
    (out / "animated.webp").write_bytes(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a photo of a cat\nseed 7")
    info.add_itxt("prompt", "кот 🐈")
    info.add_text("packed", "left out " * 40, zip=True)
    (out / "text.png").write_bytes(saved(scene(16, 16), "PNG", pnginfo=info))

    def stored(a):
        return {"width": a.shape[1], "height": a.shape[0], "offset": expected.add(a)}

    resizes = []
    sources = {
        "noise": rng.integers(0, 256, (29, 37, 3)).astype(np.uint8),
        "extremes": (rng.integers(0, 2, (40, 23, 3)) * 255).astype(np.uint8),
        "scene": np.array(scene(96, 64)),
        "wide": np.array(scene(200, 12))[:3],
        "dot": np.array([[[200, 100, 50]]], np.uint8),
    }
    sizes = {
        "noise": [(64, 64), (16, 16), (13, 41), (37, 10), (100, 29), (1, 1), (74, 58), (36, 30)],
        "extremes": [(64, 64), (11, 20), (24, 39), (20, 34), (20, 33), (22, 11)], "scene": [(64, 64), (31, 17), (7, 90)],
        "wide": [(7, 7), (64, 64)], "dot": [(5, 4)],
    }
    places = {name: stored(source) for name, source in sources.items()}
    for name, source in sources.items():
        for size in sizes[name]:
            r = np.array(Image.fromarray(source).resize(size, Image.BICUBIC))
            resizes.append({"name": name, "source": places[name], "result": stored(r)})

    # The authors' data set: crop with numpy, resize with Pillow, mirror.
    recipes = []
    for name in ("noise", "extremes", "scene"):
        img = sources[name]
        h, w = img.shape[:2]
        crop = min(h, w)
        cut = img[(h - crop) // 2:(h + crop) // 2, (w - crop) // 2:(w + crop) // 2]
        r = Image.fromarray(cut).resize((32, 32), Image.BICUBIC).transpose(Image.FLIP_LEFT_RIGHT)
        recipes.append({"source": places[name], "result": stored(np.array(r))})
    scaled = (np.arange(256).astype(np.uint8) / 127.5 - 1.0).astype(np.float32)
    index = {"pictures": pictures, "resizes": resizes, "recipes": recipes, "scaled": expected.add(scaled)}
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    (out / "expected.bin").write_bytes(bytes(expected.data))
