"""A picture's features: python example.py PICTURE  (writes features.npz and pca.png).

Needs numpy, Pillow and onnxruntime; features.onnx lies beside this file.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

CPU = ["CPUExecutionProvider"]

here = Path(__file__).parent
# Some formats need options of onnxruntime; the manifest names them.
options = onnxruntime.SessionOptions()
manifest = here / "manifest.json"
described = json.loads(manifest.read_text()) if manifest.is_file() else {}
for key, value in described.get("session", {}).items():
    options.add_session_config_entry(key, value)
picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")

# The graph is for one size, and for any number of pictures at once. Squash the picture to that
# size, then ImageNet's mean and deviation.
session = onnxruntime.InferenceSession(here / "features.onnx", options, providers=CPU)
image = session.get_inputs()[0]
height, width = image.shape[2:]
pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
pixels = (pixels - mean) / deviation
names = [output.name for output in session.get_outputs()]
outputs = session.run(names, {image.name: pixels.transpose(2, 0, 1)[None]})
features = dict(zip(names, outputs, strict=True))
np.savez("features.npz", **features)
for name, value in features.items():
    print(f"features.npz: {name} {list(value.shape)}")

# Patch tokens run along the rows. Where they differ most is their three main directions: red,
# green and blue, each from the 2nd to the 98th percentile.
patches = features["patch_tokens"][0].astype(np.float64)
side = math.isqrt(height * width // len(patches))
centred = patches - patches.mean(axis=0)
directions = np.linalg.svd(centred, full_matrices=False)[2][:3]
scores = centred @ directions.T
scores = np.pad(scores, ((0, 0), (0, 3 - len(directions))))  # fewer than three patches
low, high = np.percentile(scores, (2, 98), axis=0)
colours = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1) * 255 + 0.5
pca = Image.fromarray(colours.astype(np.uint8).reshape(height // side, width // side, 3))
pca.resize(picture.size, Image.Resampling.BICUBIC).save("pca.png")
print(f"pca.png: {height // side} rows of {width // side} patches")
