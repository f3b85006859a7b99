"""Segments what lies under a point: python example.py PICTURE X Y  (writes mask.png).

Needs numpy, Pillow and onnxruntime; encoder.onnx and decoder.onnx lie beside this file.
"""

import json
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
x, y = float(sys.argv[2]), float(sys.argv[3])

# The encoder takes any number of pictures at once: each squashed to its square, then ImageNet's
# mean and deviation.
encoder = onnxruntime.InferenceSession(here / "encoder.onnx", options, providers=CPU)
size = encoder.get_inputs()[0].shape[-1]
pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
pixels = (pixels - mean) / deviation
batch = np.stack([pixels.transpose(2, 0, 1)])
names = ["image_embed", "high_res_feats_0", "high_res_feats_1"]
outputs = encoder.run(names, {"image": batch})
features = dict(zip(names, outputs, strict=True))

# The decoder takes one picture of the batch, here the first, and any number of prompt sets.
# Labels: 1 on the object, 0 off it; a box is two points, its corners, labelled 2 and 3, put first.
decoder = onnxruntime.InferenceSession(here / "decoder.onnx", options, providers=CPU)
first = {name: value[:1] for name, value in features.items()}
point = (x * size / picture.width, y * size / picture.height)
prompt = {
    "point_coords": np.array([[point]], np.float32),
    "point_labels": np.ones((1, 1), np.float32),
}
masks, scores = decoder.run(["masks", "iou_predictions"], first | prompt)

# Three masks: take the one with the best score, enlarge its logits, cut at 0.
best = int(scores[0].argmax())
logits = Image.fromarray(masks[0, best]).resize(picture.size, Image.Resampling.BILINEAR)
mask = np.asarray(logits) > 0
Image.fromarray(mask.astype(np.uint8) * 255).save("mask.png")
print(f"mask.png: predicted IoU {scores[0, best]:.3f}, {mask.mean():.1%} of the picture")
