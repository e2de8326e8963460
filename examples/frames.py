"""Frames of a camera, through a stream of four stages: decode, detect, annotate, encode.

Shows stages that stay warm: the detector loads its model once, and gets eight frames at a time; that large values, here decoded
frames, stay in shared memory between the stages; that a stage may join others; and which stage holds up the others.

pip install '.[examples]'
python examples/frames.py                                      on this machine's cores
python examples/frames.py --count 2000 --width 1280            longer, and larger
HANDOFF_SEEDS=tcp://HOST:PORT python examples/frames.py        on the cluster of that member

Nodes need numpy and pillow.
"""

import argparse
import asyncio
import io
import time
from collections.abc import Iterator
from math import cos, sin
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import handoff_actors as handoff

#: height x width x 3
Frame = NDArray[np.uint8]

#: The side of the squares in which the detector looks, in pixels.
CELL = 16
BATCH = 8


class Spot(NamedTuple):
    x: int
    y: int


# --- Functions that run on the nodes


def decode(jpeg: bytes) -> Frame:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def load_model() -> NDArray[np.float32]:
    """Load the detector: here, how red, green and blue count. Each worker of the stage does this once."""
    time.sleep(0.2)
    return np.array([1.0, 1.0, -0.5], np.float32)


def detect(model: NDArray[np.float32], frames: list[tuple[Frame]]) -> tuple[list[Spot], NDArray[np.float32]]:
    """Find the brightest cell of each frame. It takes a batch, and returns the model, as its state, for the next one."""
    return [brightest(frame, model) for (frame,) in frames], model


def brightest(frame: Frame, model: NDArray[np.float32]) -> Spot:
    height, width = frame.shape[0] // CELL, frame.shape[1] // CELL
    cells = frame[: height * CELL, : width * CELL].reshape(height, CELL, width, CELL, 3)
    scores = cells.mean(axis=(1, 3), dtype=np.float32) @ model
    row, column = divmod(int(scores.argmax()), width)
    return Spot(column * CELL + CELL // 2, row * CELL + CELL // 2)


def annotate(frame: Frame, spot: Spot) -> tuple[Frame, Spot]:
    """Draw a box around what was found. Frames are read-only, so this makes a copy."""
    image = Image.fromarray(frame)
    box = (spot.x - CELL, spot.y - CELL, spot.x + CELL, spot.y + CELL)
    ImageDraw.Draw(image).rectangle(box, outline="red", width=2)
    return np.asarray(image), spot


def encode(annotated: tuple[Frame, Spot]) -> tuple[bytes, Spot]:
    frame, spot = annotated
    data = io.BytesIO()
    Image.fromarray(frame).save(data, "JPEG")
    return data.getvalue(), spot


# --- The app


def stages() -> handoff.DAG:
    dag = handoff.DAG("frames")
    jpeg = dag.call(None, type="input", id="jpeg")
    frame = dag.call(decode, jpeg, id="decode")
    spot = dag.call(detect, frame, id="detect", init=load_model, batch_size=BATCH, batch_timeout=0.02)
    dag.call(encode, dag.call(annotate, frame, spot, id="annotate"), id="encode")
    return dag


def position(number: int, width: int) -> Spot:
    """Where the light is in a frame: it goes round."""
    radius = width / 4
    return Spot(int(width / 2 + radius * cos(number / 20)), int(width * 3 / 8 + radius * sin(number / 20)))


def camera(count: int, width: int) -> Iterator[bytes]:
    """Take pictures of a light in a dim room."""
    room = np.random.default_rng(0).integers(0, 60, (width * 3 // 4, width, 3), dtype=np.uint8)
    for number in range(count):
        image = Image.fromarray(room)
        x, y = position(number, width)
        ImageDraw.Draw(image).ellipse((x - CELL, y - CELL, x + CELL, y + CELL), fill="yellow")
        data = io.BytesIO()
        image.save(data, "JPEG")
        yield data.getvalue()


async def main(count: int, width: int) -> None:
    found = nbytes = number = 0
    async with handoff.stream(stages(), in_flight=4 * BATCH, errors="raise") as pipeline:
        began_at = time.perf_counter()
        async for jpeg, spot in pipeline.map(camera(count, width)):
            x, y = position(number, width)
            found += abs(spot.x - x) <= CELL and abs(spot.y - y) <= CELL
            nbytes += len(jpeg)
            number += 1
        took_s = time.perf_counter() - began_at
        print(pipeline.report)
    print(f"found the light in {found} of {number} frames, {nbytes / 1e6:.1f} MB of JPEG came out")
    print(f"{number / took_s:.0f} frames/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find a light in the frames of a camera.")
    parser.add_argument("--count", type=int, default=300, help="number of frames")
    parser.add_argument("--width", type=int, default=640, help="their width in pixels")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.count, arguments.width))
