"""A map of features as a static picture: what stands where no script runs. Pure: arrays in, HTML out."""

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from widgets.marks import FAINT, cell_html, table_html, visible

# The colors of points.js: told apart with any kind of color vision, contrast ≥ 3 on white and on near black.
PALETTE = [(0, 114, 178), (213, 94, 0), (0, 152, 111), (196, 104, 158), (140, 110, 30), (122, 122, 122)]
PICTURE = [(0, 0, 0), *PALETTE, (230, 97, 0)]  # the first is left transparent, the last rings the selection
RING = len(PICTURE) - 1
WIDTH, HEIGHT, MARGIN = 760, 440, 8
SCALE = 2  # pixels of the picture to one of the page
N_LISTED = 12


def map_html(
    xy: np.ndarray, saes: np.ndarray, names: Sequence[str], table: pd.DataFrame, selected: int | None, lassoed: Sequence[int]
) -> str:
    """All points by dictionary, the selection ringed, the first of the lassoed features as a list."""
    alt = f"map of {len(xy):,} features"
    picture = png_img(points_image(xy, saes, selected), WIDTH, alt)
    swatches = [
        f'<span style="margin-right:14px;white-space:nowrap"><span style="display:inline-block;width:9px;height:9px;border-radius:5px;'
        f'background-color:rgb{PALETTE[i % len(PALETTE)]}"></span> {escape(visible(name))}</span>'
        for i, name in enumerate(names)
    ]
    about = f'<div style="font-size:12px">{"".join(swatches)}<span style="{FAINT}">{len(xy):,} features</span></div>'
    listed = [] if selected is None else [selected]
    listed += [row for row in lassoed if row != selected][: N_LISTED - len(listed)]
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{about}{picture}{_list(table, listed)}</div>'


def _list(table: pd.DataFrame, rows: Sequence[int]) -> str:
    if not rows:
        return ""
    head = [cell_html(name, "font-weight:600", "th") for name in ("dictionary", "feature", "density", "label")]
    cells = []
    for row in table.iloc[list(rows)].itertuples():
        texts = [
            escape(visible(str(row.sae))),
            f"{row.feature:,}",
            "–" if np.isnan(row.density) else f"{100 * row.density:.3g} %",
            escape(visible(str(row.label or ""))),
        ]
        cells.append([cell_html(text) for text in texts])
    return table_html(cells, head)


def points_image(xy: np.ndarray, saes: np.ndarray, selected: int | None = None) -> np.ndarray:
    """(height, width) places in PICTURE; xy in −1 to 1. The ring around the selection is orange."""
    width, height = SCALE * WIDTH, SCALE * HEIGHT
    image = np.zeros((height, width), dtype=np.uint8)
    if not len(xy):
        return image
    half = np.maximum(np.abs(xy).max(axis=0), 1e-9)
    scale = min((width / 2 - MARGIN) / half[0], (height / 2 - MARGIN) / half[1])
    at = np.stack([width / 2 + scale * xy[:, 0], height / 2 - scale * xy[:, 1]], axis=1).round().astype(int)
    order = np.random.default_rng(0).permutation(len(xy))  # no dictionary hides another
    r = int(np.clip(round(260 / np.sqrt(len(xy))), 1, 5))
    _stamp(image, at[order], 1 + saes[order] % len(PALETTE), 0, r)
    if selected is not None:
        _stamp(image, at[[selected]], np.array([RING]), 9, 13)
    return image


def _stamp(image: np.ndarray, at: np.ndarray, colors: np.ndarray, inner: float, outer: float) -> None:
    """A disk or ring at each of `at` (x, y)."""
    reach = int(np.ceil(outer))
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if not inner <= np.hypot(dx, dy) <= outer:
                continue
            x, y = at[:, 0] + dx, at[:, 1] + dy
            fits = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
            image[y[fits], x[fits]] = colors[fits]


def png_img(image: np.ndarray, width: int, alt: str) -> str:
    """(height, width) places in PICTURE, of which the first is transparent, as an <img> with a data URI, shown `width` pixels wide."""
    lines = np.concatenate([np.zeros((len(image), 1), np.uint8), image], axis=1)  # each line with filter 0
    head = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 3, 0, 0, 0)
    colors, pixels = np.array(PICTURE, dtype=np.uint8).tobytes(), zlib.compress(lines.tobytes(), 6)
    parts = [(b"IHDR", head), (b"PLTE", colors), (b"tRNS", b"\x00"), (b"IDAT", pixels), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts]
    uri = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
    return f'<img src="{uri}" width="{width}" alt="{escape(alt)}" style="max-width:100%">'
