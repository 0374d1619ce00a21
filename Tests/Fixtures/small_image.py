#!/usr/bin/env python3
"""Makes a small image for docs/images, of 256 colours, from one image or from several.

    small_image.py [--stack | --beside | --grid COLUMNS] FROM... TO SCALE

--stack puts them below one another, --beside next to one another, --grid in rows of so many. Needs pillow.
"""
import sys

from PIL import Image

arguments, columns = sys.argv[1:], 1
if arguments[0] == "--stack":
    arguments = arguments[1:]
elif arguments[0] == "--beside":
    arguments = arguments[1:]
    columns = len(arguments) - 2
elif arguments[0] == "--grid":
    columns, arguments = int(arguments[1]), arguments[2:]
*sources, target, scale = arguments
images = [Image.open(s).convert("RGB") for s in sources]
width, height = max(i.width for i in images), max(i.height for i in images)
whole = Image.new("RGB", (width * columns, height * -(-len(images) // columns)), "white")
for n, image in enumerate(images):
    whole.paste(image, (n % columns * width, n // columns * height))
size = round(whole.width * float(scale)), round(whole.height * float(scale))
whole = whole.resize(size, Image.Resampling.LANCZOS)
whole.quantize(palette=whole.quantize(256, kmeans=2)).save(target, optimize=True)
