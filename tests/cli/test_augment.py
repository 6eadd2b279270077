"""``repfold augment``: the sheet shows the images and what the augmentations make of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repfold.cli import main
from repfold.data.augment import AUGMENTATIONS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of four coloured pictures, 20 x 20."""
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        for number in range(4):
            path = tmp_path / "data" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "data"


def tiles(path: Path, rows: int, columns: int, tile: int) -> np.ndarray:
    """Return [rows, columns, tile, tile, 3], the pictures on the sheet."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    assert sheet.shape[0] == rows * (tile + 4) + 4
    left = sheet.shape[1] - columns * (tile + 4)
    places = [[(4 + row * (tile + 4), left + column * (tile + 4)) for column in range(columns)] for row in range(rows)]
    return np.array([[sheet[y : y + tile, x : x + tile] for y, x in line] for line in places])


def test_draws_of_one_chain(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sheet.png"
    common = ["augment", str(folder), "--preview", str(path), "--images", "3", "--draws", "2", "--json"]
    main([*common, "--augment", "cutout:size=0.3,fill=7"])
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "preview": str(path),
        "augment": "cutout:size=0.3,fill=7",
        "rows": ["before", "draw 1", "draw 2"],
        "images": 3,
    }
    shown = tiles(path, rows=3, columns=3, tile=80)
    changed = (shown[1:] != shown[0]).any(axis=-1)
    hidden = (shown[1:] == 7).all(axis=-1)
    assert (changed == hidden).all()  # nothing but the squares differs
    assert 0 < hidden.mean() <= 0.3**2 and not (hidden[0] == hidden[1]).all()
    first = path.read_bytes()
    main([*common, "--augment", "cutout:size=0.3,fill=7"])
    assert path.read_bytes() == first
    main([*common, "--augment", "cutout:size=0.3,fill=7", "--seed", "1"])
    assert path.read_bytes() != first


def test_every_augmentation_has_a_row_when_none_is_told(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.png"
    main(["augment", str(folder), "--preview", str(path), "--images", "4", "--image-size", "64"])
    shown = tiles(path, rows=len(AUGMENTATIONS) + 3, columns=4, tile=64)
    assert all((row != shown[0]).any() for row in shown[1:])


def test_gray_images_and_mixing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digits.png"
    main(
        [
            "augment",
            "digits",
            "--preview",
            str(path),
            "--mixup",
            "0.4",
            "--cutmix",
            "1",
            "--images",
            "2",
            "--draws",
            "1",
        ]
    )
    shown = tiles(path, rows=2, columns=2, tile=64)
    assert (shown[1] != shown[0]).any()
    assert str(path) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digitz"], "Did you mean 'digits'"),
        (["digits", "--augment", "cutuot"], "Did you mean 'cutout'"),
        (["digits", "--preview", "sheet.txt"], "unknown picture format"),
        (["digits", "--images", "0"], "at least 1"),
        (["digits", "--mixup", "-1"], "alpha"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["augment", *arguments])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
