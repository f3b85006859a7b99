"""SqueezeNet's part of `predict`: a bar for each class."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from exporters.graphs.sessions import Sessions
from exporters.media.drawing import Drawing, Request
from exporters.media.pictures import preprocess

BAR: Final = (32, 128, 255)


def predict(request: Request) -> Drawing:
    """The picture with the softmax of its scores as bars along its lower edge."""
    sessions = Sessions(request.files, request.threads)
    side = request.contract["graphs"][0]["inputs"][0]["dims"][-1]
    scores = sessions.run("classifier", {"image": preprocess(request.picture, side, side)})[
        "scores"
    ]
    shares = np.exp(scores[0] - scores[0].max())
    shares /= shares.sum()
    sheet = Image.fromarray(request.picture)
    pen = ImageDraw.Draw(sheet)
    width = sheet.width / len(shares)
    for index, share in enumerate(shares):
        top = sheet.height * (1 - float(share))
        pen.rectangle((index * width, top, (index + 0.8) * width, sheet.height), fill=BAR)
    best = int(shares.argmax())
    return Drawing(
        overlay=np.array(sheet, dtype=np.uint8),
        says=[f"class {best}, {shares[best]:.1%}"],
        figures={"shares": [float(one) for one in shares]},
    )
