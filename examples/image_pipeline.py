"""A contact sheet of many photographs, made by three nodes.

Shows that large values, here pictures, stay on the node that made them, and that functions there map them; that only
small ones, here thumbnails, are sent; and how to see which node did what.

pip install '.[examples]'
python examples/image_pipeline.py                                  three nodes on this machine
HANDOFF_SEEDS=tcp://HOST:PORT python examples/image_pipeline.py    the cluster of that member

Nodes need numpy and pillow.
"""

import argparse
import asyncio
import io
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

import handoff_actors as handoff

#: height x width x 3
Picture = NDArray[np.uint8]

CORE = {"cpu": 1}


# --- Functions that run on the nodes


def photograph(number: int, width: int) -> bytes:
    """Take a picture: a JPEG of coloured clouds, so that there is nothing to download."""
    clouds = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return jpeg(Image.fromarray(clouds).resize((width, width * 3 // 4), Image.Resampling.BICUBIC))


def decode(photo: bytes) -> Picture:
    return np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))


def halve(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).reduce(2))


def sharpen(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.UnsharpMask(radius=4)))


def thumbnail(picture: Picture, width: int) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((width, width))
    return jpeg(ImageOps.expand(image, border=2, fill="white"))


def contact_sheet(*thumbnails: bytes) -> bytes:
    images = [Image.open(io.BytesIO(data)) for data in thumbnails]
    columns = ceil(sqrt(len(images)))
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, ceil(len(images) / columns) * height))
    for place, image in enumerate(images):
        sheet.paste(image, (place % columns * width, place // columns * height))
    return jpeg(sheet)


def jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG")
    return data.getvalue()


# --- The app


def pipeline(count: int, width: int) -> handoff.DAG:
    """Make a DAG: decode, halve, sharpen and shrink photographs side by side; the sheet takes all thumbnails."""
    dag = handoff.new()
    thumbnails = []
    for number in range(count):
        photo = dag.call(photograph, number, width, id=f"photograph-{number}", cost=CORE)
        picture = dag.call(decode, photo, id=f"decode-{number}", cost=CORE)
        half = dag.call(halve, picture, id=f"halve-{number}", cost=CORE)
        sharp = dag.call(sharpen, half, id=f"sharpen-{number}", cost=CORE)
        thumbnails.append(dag.call(thumbnail, sharp, 160, id=f"thumbnail-{number}", cost=CORE))
    dag.call(contact_sheet, *thumbnails, id="sheet", cost=CORE)
    return dag


@asynccontextmanager
async def three_nodes() -> AsyncIterator[handoff.Session]:
    """Use the cluster that HANDOFF_SEEDS names; by default, start three daemons on this machine."""
    if os.environ.get("HANDOFF_SEEDS"):
        async with handoff.Session() as session:
            yield session
    else:
        async with handoff.LocalCluster(nodes=3, cpu=1) as cluster, cluster.session() as session:
            yield session


def print_who_did_what(run: handoff.Run) -> None:
    steps = Counter((node, str(function_id).split("-")[0]) for function_id, node in run.allocations.items())
    for name in sorted(set(run.allocations.values())):
        print(
            f"{name}: "
            + ", ".join(f"{count} {step}" for (node, step), count in steps.items() if node == name)
        )
    print(run.report.table("code"))


async def main(count: int, width: int) -> bytes:
    async with three_nodes() as session:
        run = await session.execute_distributed(pipeline(count, width))
        print_who_did_what(run)

        stayed = [value for value in run.results.values() if isinstance(value, handoff.StoredValue)]
        print(
            f"stayed on the nodes: {len(stayed)} values, {sum(value.nbytes for value in stayed) / 1e6:.0f} MB"
        )
        print(f"came here: {session.received_bytes() / 1e3:.0f} kB")

        # A value that stayed on its node can be fetched for as long as there is `run`.
        picture: Picture = await run.fetch("sharpen-0")
        print(f"the first one, sharpened: {picture.shape[1]} x {picture.shape[0]} pixels")
        sheet: bytes = run.results["sheet"]
        return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a contact sheet of photographs.")
    parser.add_argument("--count", type=int, default=24, help="number of photographs")
    parser.add_argument("--width", type=int, default=2000, help="their width in pixels")
    parser.add_argument("--output", type=Path, default=Path("sheet.jpg"), help="file for the sheet")
    arguments = parser.parse_args()
    arguments.output.write_bytes(asyncio.run(main(arguments.count, arguments.width)))
