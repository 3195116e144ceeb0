"""Turns the shapes of ``chart`` into a picture: SVG with nothing but text, PNG with Pillow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceops.calls.chart import HEIGHT, PAPER, WIDTH, ChartBand, ChartDot, ChartLine, ChartText, Shape
from voiceops.errors import StorageError, UsageError

if TYPE_CHECKING:
    from PIL import ImageDraw

_OVERSAMPLE = 3
_RESOLUTION = 2
"""The PNG has that many pixels per unit of the chart."""
_RADIUS = 3.2


def check_file(flag: str, file: str) -> None:
    """Refuse a file that could not be written at the end, before any call is placed."""
    path = Path(file)
    if path.is_dir():
        raise UsageError(f"{flag} names a folder: {file}", hint=f"name a file in it: {path / 'calls.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"{flag}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{flag}: {file} may not be written by this user", hint="name another file")


def check(file: str) -> None:
    """Refuse a plot that could not be drawn or written at the end, before any call is placed."""
    if not file:
        return
    check_file("--plot", file)
    kind = Path(file).suffix.lower()
    if kind not in (".png", ".svg"):
        raise UsageError(
            f"--plot writes .png and .svg, not {file}",
            hint=f"--plot {Path(file).with_suffix('.png')}",
        )
    if kind == ".png" and find_spec("PIL") is None:
        raise UsageError(
            "--plot needs the package Pillow for a PNG",
            hint="pip install pillow, or write an .svg, which needs nothing",
        )


def save(shapes: Sequence[Shape], file: str) -> None:
    """Write the picture in the format of the file's name."""
    path = Path(file)
    try:
        if path.suffix.lower() == ".svg":
            path.write_text(svg(shapes), encoding="utf-8")
        else:
            _png(shapes, path)
    except OSError as error:
        raise StorageError(f"can't write {file}: {error.strerror or error}") from error


def svg(shapes: Sequence[Shape]) -> str:
    """A self-contained picture that scales to its container."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
    ]
    return "\n".join([*parts, *(_as_svg(shape) for shape in shapes), "</svg>"])


def _as_svg(shape: Shape) -> str:
    if isinstance(shape, ChartText):
        weight = ' font-weight="600"' if shape.bold else ""
        return (
            f'<text x="{shape.x}" y="{shape.y}" font-size="{shape.size}" fill="{shape.color}"'
            f' text-anchor="{shape.anchor}"{weight}>{escape(shape.text)}</text>'
        )
    if isinstance(shape, ChartLine):
        points = " ".join(f"{x},{y}" for x, y in shape.points)
        dashes = ' stroke-dasharray="4 4"' if shape.dashed else ""
        return (
            f'<polyline points="{points}" fill="none" stroke="{shape.color}"'
            f' stroke-width="{shape.width}"{dashes}/>'
        )
    if isinstance(shape, ChartBand):
        return (
            f'<rect x="{shape.left}" y="{shape.top}" width="{shape.right - shape.left:.2f}"'
            f' height="{shape.bottom - shape.top:.2f}" fill="{shape.color}"/>'
        )
    if shape.cross:
        x, y, r = shape.x, shape.y, _RADIUS + 1
        return (
            f'<path d="M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}L{x + r:.1f} {y - r:.1f}"'
            f' stroke="{shape.color}" stroke-width="2"/>'
        )
    return f'<circle cx="{shape.x}" cy="{shape.y}" r="{_RADIUS}" fill="{shape.color}" fill-opacity="0.75"/>'


def _png(shapes: Sequence[Shape], path: Path) -> None:
    from PIL import Image, ImageDraw

    # Pillow draws without smoothing: lines and dots are drawn larger and scaled down, text
    # (which it smoothes by itself) is drawn at the final size.
    final, scale = _RESOLUTION, _RESOLUTION * _OVERSAMPLE
    large = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), PAPER)
    pen = ImageDraw.Draw(large)
    for shape in shapes:
        if not isinstance(shape, ChartText):
            _draw(pen, shape, scale)
    image = large.resize((WIDTH * final, HEIGHT * final), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        if isinstance(shape, ChartText):
            _write(pen, shape, final)
    image.save(path, format="PNG", optimize=True)


def _draw(pen: ImageDraw.ImageDraw, shape: ChartLine | ChartDot | ChartBand, scale: int) -> None:
    if isinstance(shape, ChartBand):
        corners = [shape.left * scale, shape.top * scale, shape.right * scale, shape.bottom * scale]
        pen.rectangle(corners, fill=shape.color)
        return
    if isinstance(shape, ChartLine):
        points = [(x * scale, y * scale) for x, y in shape.points]
        width = max(1, round(shape.width * scale))
        if shape.dashed and len(points) == 2:
            (left, y), (right, _) = points
            for start in range(round(left), round(right), 8 * scale):
                pen.line([(start, y), (min(start + 4 * scale, right), y)], fill=shape.color, width=width)
        else:
            pen.line(points, fill=shape.color, width=width, joint="curve")
        return
    x, y, r = shape.x * scale, shape.y * scale, _RADIUS * scale
    if shape.cross:
        r += scale
        pen.line([(x - r, y - r), (x + r, y + r)], fill=shape.color, width=2 * scale)
        pen.line([(x - r, y + r), (x + r, y - r)], fill=shape.color, width=2 * scale)
    else:
        pen.ellipse([x - r, y - r, x + r, y + r], fill=shape.color)


def _write(pen: ImageDraw.ImageDraw, shape: ChartText, scale: int) -> None:
    from PIL import ImageFont

    font: Any = ImageFont.load_default(size=shape.size * scale)
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
    pen.text(
        (shape.x * scale, shape.y * scale),
        shape.text,
        fill=shape.color,
        font=font,
        anchor=anchor,
        stroke_width=scale // 2 if shape.bold else 0,
        stroke_fill=shape.color,
    )
