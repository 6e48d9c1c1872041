"""tinyseg crf, and predict --crf: refined masks, settings by name and by file, a search."""

import json

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cli import main
from tinyseg.cli.common import UsageError
from tinyseg.cli.crf import settings_of
from tinyseg.crf_presets import CRF_PRESETS
from tinyseg.data import Shapes, read_index, write_image, write_mask
from tinyseg.structured.crf_settings import mean_iou, search_crf


@pytest.fixture
def photo(tmp_path):
    """A disc on ground of another colour, and a mask of it with flaws."""
    y, x = np.mgrid[:30, :34]
    disc = np.hypot(y - 14, x - 16) < 9
    image = np.where(disc[..., None], [210, 60, 40], [40, 80, 150]).astype(np.uint8)
    mask = disc.astype(np.int32)
    mask[np.random.default_rng(0).random(mask.shape) < 0.1] = 0
    write_image(tmp_path / "photo.png", image)
    (tmp_path / "labels").mkdir()
    write_mask(tmp_path / "labels" / "photo.png", mask)
    return tmp_path, image, disc, mask


def crf(folder, *more):
    return main(["crf", str(folder / "photo.png"), "--labels", str(folder / "labels"), *map(str, more)])


def test_masks_and_probabilities(photo, capsys):
    folder, image, disc, mask = photo
    assert crf(folder, "--out", folder / "out", "--overlay", "--crf", "pydensecrf") == 0
    refined = read_index(folder / "out" / "photo.png")
    assert (refined == disc).mean() > (mask == disc).mean() and (folder / "out" / "photo_overlay.png").exists()
    p = ts.structured.label_probabilities(mask, 2)
    assert np.array_equal(refined, ts.structured.dense_crf(image, p, **CRF_PRESETS["pydensecrf"]).argmax(-1))
    np.savez(folder / "labels" / "photo.npz", probabilities=p)
    assert crf(folder, "--out", folder / "soft", "--crf", "pydensecrf") == 0
    assert np.array_equal(read_index(folder / "soft" / "photo.png"), refined)
    assert "% of the labels changed" in "".join(capsys.readouterr())


def test_what_is_written_and_written_over_is_told(photo, capsys, monkeypatch):
    folder = photo[0]
    monkeypatch.chdir(folder)
    assert crf(folder, "--overlay") == 0
    assert "; also refined/photo_overlay.png" in capsys.readouterr().out
    assert crf(folder) == 0
    assert "refined/ holds results from before, which are written over (photo.png)" in capsys.readouterr().out


def test_probabilities_that_cannot_be_read(photo, capsys):
    folder = photo[0]
    soft = folder / "labels" / "photo.npz"
    np.savez(soft, probabilities=np.ones((30, 34, 2), np.float32))
    whole = soft.read_bytes()
    for content in (whole[:100], b"", whole.replace(b"probabilities", b"probabilitoes")):
        soft.write_bytes(content)
        assert crf(folder) == 2
        assert "photo.npz: damaged, or no array 'probabilities' in it; cure" in capsys.readouterr().err
    np.savez(soft, probabilities=np.ones((30, 34), np.float32))
    assert crf(folder) == 2
    assert "are float32 (30, 34), expected floats (height, width, classes)" in capsys.readouterr().err
    np.savez(soft, probabilities=np.ones((7, 34, 2), np.float32))
    assert crf(folder) == 1
    assert "(7, 34, 2)" in capsys.readouterr().err


def test_a_search_needs_the_classes_of_the_model(tmp_path, capsys):
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(2):
        write_image(tmp_path / "data" / "images" / f"{i}.png", np.zeros((8, 8, 3), np.uint8))
        write_mask(tmp_path / "data" / "masks" / f"{i}.png", np.full((8, 8), i, np.int32))
    for name, model, classes, status, message in (
        ("a", ts.models.UNet(num_classes=2, width=2), ["a", "b"], 1, "class 1, but "),
        ("b", ts.models.create("mask_rcnn_resnet18_fpn", 2, width=2), ["background", "class 1"], 2, "finds objects"),
    ):
        ts.save(tmp_path / f"{name}.npz", model, class_names=classes)
        assert main(["crf", "--search", str(tmp_path / f"{name}.npz"), "--data", str(tmp_path / "data")]) == status
        assert message in capsys.readouterr().err


def test_settings(tmp_path):
    assert settings_of("deeplabv1")["bilateral_sxy"] == 50
    (tmp_path / "mine.json").write_text('{"iterations": 2}')
    assert settings_of(str(tmp_path / "mine.json")) == {"iterations": 2}
    (tmp_path / "crf.json").write_text('{"bilateral_weight": 2}')
    own = [settings_of("own", str(path)) for path in (tmp_path, tmp_path / "best.npz")]
    assert own == [{"bilateral_weight": 2}] * 2
    (tmp_path / "bad.json").write_text('{"sxy": 2}')
    with pytest.raises(UsageError, match="expected an object with some of iterations"):
        settings_of(str(tmp_path / "bad.json"))
    (tmp_path / "worse.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        settings_of(str(tmp_path / "worse.json"))
    for name, value in (("bilateral_weight", "null"), ("iterations", "true"), ("bilateral_sxy", '[1, "a"]')):
        (tmp_path / "odd.json").write_text(f'{{"{name}": {value}}}')
        with pytest.raises(UsageError, match=f"odd.json: {name} is .*, expected a number"):
            settings_of(str(tmp_path / "odd.json"))
    (tmp_path / "pair.json").write_text('{"bilateral_sxy": [3, 4.5]}')
    assert settings_of(str(tmp_path / "pair.json")) == {"bilateral_sxy": [3, 4.5]}
    with pytest.raises(UsageError, match="--crf deeplab: no such settings; there are pydensecrf"):
        settings_of("deeplab")


def test_a_search_is_not_worse_than_what_it_tries(photo):
    _, image, disc, mask = photo
    p = ts.structured.label_probabilities(mask, 2)
    found = search_crf([image], [p], [disc.astype(np.int32)], weights=(3, 10), reaches=(0.1,), colours=(8,))
    assert len(found) == 2 and found[0][0] >= found[1][0] >= mean_iou([mask], [disc.astype(np.int32)], 2)
    value = ts.structured.dense_crf(image, p, **found[0][1]).argmax(-1)
    confusion = ts.metrics.ConfusionMatrix(2)
    confusion.update(value, disc.astype(np.int32))
    assert found[0][0] == pytest.approx(confusion.mean_iou())
    with pytest.raises(ValueError, match="search_crf: 1 images, 0 probabilities, 1 masks"):
        search_crf([image], [], [mask])


def test_search_and_predict(tmp_path, monkeypatch, capsys):
    data = Shapes(size=32, length=3, seed=3)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(3):
        write_image(tmp_path / "data" / "images" / f"{i}.png", data[i].image)
        write_mask(tmp_path / "data" / "masks" / f"{i}.png", data[i].mask)
    (tmp_path / "data" / "classes.txt").write_text("\n".join(data.class_names))
    model = ts.models.UNet(num_classes=6, width=4)
    ts.save(str(tmp_path / "best.npz"), model, class_names=list(data.class_names))
    run = str(tmp_path / "best.npz")
    grid = search_crf.__defaults__
    monkeypatch.setattr(search_crf, "__defaults__", ((3,), (0.1,), (8, 13), *grid[3:]))
    assert main(["crf", "--search", run, "--data", str(tmp_path / "data"), "--split", "all", "--limit", "2"]) == 0
    assert json.loads((tmp_path / "crf.json").read_text())["gaussian_sxy"] == 1
    photo = str(tmp_path / "data" / "images" / "0.png")
    out = tmp_path / "out"
    assert main(["predict", run, photo, "--out", str(out), "--crf", "own", "--probabilities"]) == 0
    with np.load(out / "0.npz") as held:
        refined = held["probabilities"]
    own = json.loads((tmp_path / "crf.json").read_text())
    expected = ts.structured.dense_crf(data[0].image, ts.predict(model, data[0].image, probabilities=True), **own)
    np.testing.assert_allclose(refined, expected, atol=1e-4)
    assert np.array_equal(read_index(out / "0.png"), refined.argmax(-1))

    evaluate = ["eval", run, "--data", str(tmp_path / "data"), "--split", "all", "--crf"]
    light = {"iterations": 1, "gaussian_weight": 0.1, "bilateral_weight": 0.1}
    (tmp_path / "light.json").write_text(json.dumps(light))
    for name, settings in (("own", own), (str(tmp_path / "light.json"), light)):
        capsys.readouterr()
        assert main([*evaluate, name]) == 0
        confusion = ts.metrics.ConfusionMatrix(6)
        for i in range(3):
            p = ts.predict(model, data[i].image, probabilities=True)
            confusion.update(ts.structured.dense_crf(data[i].image, p, **settings).argmax(-1), data[i].mask)
        text = "".join(capsys.readouterr())
        assert f"mean IoU                 {confusion.mean_iou():.4f}" in text and "refined by a dense CRF" in text


def test_errors(photo, capsys):
    folder = photo[0]
    for words, message in (
        (["crf"], "expected photographs and --labels DIR, or --search"),
        (["crf", "--search", "x"], "expected --data DIR, a data set with masks"),
        (["crf", str(folder / "photo.png"), "--labels", str(folder / "nowhere")], "neither"),
        (["predict", "run.npz", "photo.jpg", "--crf", "nothing"], "--crf nothing: no such settings"),
        (["eval", "run.npz", "--crf", "nothing"], f"there are {', '.join(CRF_PRESETS)}, own (after"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert crf(folder, "--out", folder / "labels") == 2
    np.savez(folder / "labels" / "photo.npz", other=np.zeros(3))
    assert crf(folder, "--out", folder / "out") == 2 and not (folder / "out").exists()
