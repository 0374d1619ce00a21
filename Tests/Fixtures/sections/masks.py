"""The alpha channels of the image files of the section imaging, as Pillow reads them, none where all is opaque; and a
mask that is white everywhere, and opaque in its upper half."""
import json
from pathlib import Path

from PIL import Image, ImageOps

FILES = Path(__file__).resolve().parents[1] / "data/imaging"


def make(out: Path):
    alphas = {}
    for file in sorted(FILES.iterdir()):
        if file.suffix not in (".png", ".webp", ".jpg") or file.name == "animated.webp":
            continue
        alpha = ImageOps.exif_transpose(Image.open(file)).convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            alphas[file.name] = list(alpha.tobytes())
    (out / "alpha.json").write_text(json.dumps(alphas))
    mask = Image.new("LA", (32, 32), (255, 0))
    mask.paste((255, 255), (0, 0, 32, 16))
    mask.save(out / "opaque-above.png")
