"""The documentation's pictures: `make pictures` runs the browser's tests and keeps some of their screenshots.

All data on them are synthetic.
"""

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
SHOTS = Path(__file__).parent / "screenshots"
PICTURES = ROOT / "docs/pictures"
MOST_BYTES = 150_000
# Each picture, the screenshot that it is made of, and the part of its height that a reader needs.
CHOSEN = {
    "form-of-a-store": ("02-form", 0.75),
    "form-of-a-pipeline": ("21-step-functions-filled", 1),
    "run": ("16-run-v2", 0.6),
    "verdict": ("15-verdict-v2", 0.6),
    "report": ("30-quality-light", 1),
    "report-in-dark-mode": ("30-quality-dark", 1),
    "report-on-a-phone": ("31-quality-phone", 1),
    "drift": ("30-drift-light", 1),
}


def main() -> None:
    """Write the pictures, with a palette of their own so that they are small."""
    PICTURES.mkdir(exist_ok=True)
    for name, (shot, part) in CHOSEN.items():
        with Image.open(SHOTS / f"{shot}.png") as image:
            small = image.convert("RGB").crop((0, 0, image.width, int(image.height * part)))
        path = PICTURES / f"{name}.png"
        small.quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
        size = path.stat().st_size
        print(f"{path.relative_to(ROOT)}: {size:,} bytes")
        if size > MOST_BYTES:
            raise SystemExit(f"{path} is larger than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
