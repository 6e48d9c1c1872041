import logging
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinyseg.data import DataError, overlay, read_image, read_mask, voc_palette, write_image, write_mask
from tinyseg.data.image import read_index, to_uint8

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (7, 5), dtype=np.uint8)


def saved(path, array, mode=None):
    Image.fromarray(array, mode).save(path)
    return path


def test_rgb_and_grey(tmp_path):
    assert np.array_equal(read_image(saved(tmp_path / "a.png", RGB)), RGB)
    assert np.array_equal(read_image(saved(tmp_path / "b.png", GREY)), GREY[:, :, None])


def test_alpha_is_dropped(tmp_path):
    rgba = np.dstack([RGB, GREY])
    assert np.array_equal(read_image(saved(tmp_path / "a.png", rgba)), RGB)
    assert np.array_equal(read_image(saved(tmp_path / "b.png", np.dstack([GREY, 255 - GREY]), "LA")), GREY[:, :, None])


def test_palette_black_and_white_and_cmyk(tmp_path):
    Image.fromarray(RGB).quantize(256).save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png"), np.array(Image.open(tmp_path / "p.png").convert("RGB")))
    assert np.array_equal(read_image(saved(tmp_path / "1.png", GREY > 127)), (GREY > 127)[:, :, None] * np.uint8(255))
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "c.tif")
    assert read_image(tmp_path / "c.tif").shape == (7, 5, 3)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, ending):
    deep = RNG.integers(0, 65536, (7, 5), dtype=np.uint16)
    image = read_image(saved(tmp_path / f"a.{ending}", deep))
    assert image.dtype == np.uint16 and np.array_equal(image[:, :, 0], deep)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_on_request(tmp_path, channels):
    for array in (RGB, GREY, GREY.astype(np.uint16) * 257):
        image = read_image(saved(tmp_path / "a.png", array), channels)
        assert image.shape == (7, 5, channels) and image.dtype == array.dtype and image.flags.c_contiguous
    assert np.array_equal(read_image(saved(tmp_path / "b.png", np.dstack([GREY] * 3)), 1)[:, :, 0], GREY)


@pytest.mark.parametrize("orientation, turned", [(3, RGB[::-1, ::-1]), (6, np.rot90(RGB, -1)), (8, np.rot90(RGB))])
def test_exif_rotation(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), turned)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "gif", "bmp"])
@given(keep=st.floats(0, 0.8), damage=st.integers(0, 2**32 - 1))
def test_damaged_files_name_the_file(tmp_path_factory, ending, keep, damage):
    path = tmp_path_factory.mktemp("damaged") / f"a.{ending}"
    Image.fromarray(RGB).resize((40, 40)).save(path)
    data = bytearray(path.read_bytes()[:int(keep * path.stat().st_size)])
    rng = np.random.default_rng(damage)
    for at in rng.integers(0, max(1, len(data)), 3 if len(data) else 0):
        data[at] = rng.integers(256)
    path.write_bytes(data)
    try:
        read_image(path)  # a damaged picture may still be one
    except DataError as error:
        assert str(path) in str(error)
        assert "export it again" in str(error) or "bits are expected" in str(error)


def test_truncated_missing_and_float_files(tmp_path):
    path = saved(tmp_path / "a.png", np.kron(RGB, np.ones((9, 9, 1), np.uint8)))
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(DataError, match=r"a\.png.*export it again"):
        read_image(path)
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="32-bit floats"):
        read_image(saved(tmp_path / "f.tif", GREY.astype(np.float32)))
    with pytest.raises(DataError, match="32-bit values from"):
        read_image(saved(tmp_path / "i.tif", GREY.astype(np.int32) + 70000))


@given(seed=st.integers(0, 2**32 - 1), high=st.sampled_from([1, 20, 255, 256, 65535]))
def test_mask_round_trip(tmp_path_factory, seed, high):
    path = tmp_path_factory.mktemp("mask") / "a.png"
    mask = np.random.default_rng(seed).integers(0, high, (6, 9), endpoint=True)
    write_mask(path, mask)
    assert np.array_equal(read_index(path), mask) and read_index(path).dtype == np.int32


def test_palette_round_trip(tmp_path):
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    write_mask(tmp_path / "a.png", GREY, palette)
    assert np.array_equal(read_image(tmp_path / "a.png"), palette[GREY])
    assert np.array_equal(read_mask(tmp_path / "a.png"), GREY)


def test_voc_palette():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8 and len(np.unique(palette, axis=0)) == 256
    assert [tuple(palette[k]) for k in (0, 1, 2, 15, 20, 255)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128), (0, 64, 128), (224, 224, 192)]


def test_binary_masks_are_recognised_with_a_message(tmp_path, caplog):
    binary = (GREY > 127).astype(np.uint8)
    with caplog.at_level(logging.WARNING, "tinyseg.data"):
        mask = read_mask(saved(tmp_path / "a.png", binary * 255))
    assert np.array_equal(mask, binary) and "0 and 255; read as class 0 and class 1" in caplog.text
    Image.fromarray(binary * 255).convert("RGB").save(tmp_path / "b.png")
    assert np.array_equal(read_mask(tmp_path / "b.png"), binary)
    assert np.array_equal(read_mask(saved(tmp_path / "c.png", binary.astype(bool))), binary)
    write_mask(tmp_path / "d.png", binary * 255)  # with a palette, 255 is VOC's border
    assert np.array_equal(read_mask(tmp_path / "d.png"), binary * 255)


def test_coloured_masks(tmp_path):
    colours = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 255]])
    ids = RNG.integers(0, 3, (7, 5))
    path = saved(tmp_path / "a.png", colours[ids].astype(np.uint8))
    assert np.array_equal(read_mask(path, colours=colours), ids)
    with pytest.raises(DataError, match=r"a\.png: the mask is coloured.*128, 64, 128.*classes\.txt"):
        read_mask(path)
    with pytest.raises(DataError, match=r"colours of no class.*0, 0, 255"):
        read_mask(path, colours=colours[:2])


def test_jpeg_masks_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.jpg: a JPEG mask.*PNG"):
        read_mask(saved(tmp_path / "a.jpg", GREY))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_grey_depths_are_not_stretched(tmp_path, bits):
    ids = RNG.integers(0, 2**bits, (4, 8))
    packed = np.packbits(np.unpackbits(ids.astype(np.uint8)[..., None], axis=-1)[..., -bits:].reshape(4, -1), axis=-1)
    write_png(tmp_path / "a.png", 8, 4, bits, 0, packed)
    assert np.array_equal(read_mask(tmp_path / "a.png"), ids)


@pytest.mark.parametrize("kind, channels", [(2, 3), (4, 2)])  # RGB, grey with alpha
def test_ids_in_sixteen_bit_colour_are_refused(tmp_path, kind, channels):
    rows = np.full((4, 8 * channels), 3, ">u2").view(np.uint8)  # Pillow would make zeros of them
    write_png(tmp_path / "a.png", 8, 4, 16, kind, rows)
    with pytest.raises(DataError, match=r"a\.png: ids in 16-bit colour"):
        read_mask(tmp_path / "a.png")


def write_png(path, width, height, bits, kind, rows):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    path.write_bytes(head + pixels + chunk(b"IEND", b""))


def test_write_mask_refuses(tmp_path):
    with pytest.raises(DataError, match="lossless"):
        write_mask(tmp_path / "a.jpg", GREY)
    with pytest.raises(DataError, match=r"argmax"):
        write_mask(tmp_path / "a.png", GREY.astype(np.float32))
    with pytest.raises(DataError, match="from -1 to"):
        write_mask(tmp_path / "a.png", GREY.astype(int) - GREY.min() - 1)


def test_write_image(tmp_path):
    write_image(tmp_path / "a.png", RGB / np.float32(255))
    assert np.array_equal(read_image(tmp_path / "a.png"), RGB)
    deep = GREY.astype(np.uint16) * 200
    write_image(tmp_path / "b.png", deep[:, :, None])
    assert np.array_equal(read_image(tmp_path / "b.png")[:, :, 0], deep)
    with pytest.raises(DataError, match="16-bit colour"):
        write_image(tmp_path / "c.png", RGB.astype(np.uint16))
    assert np.array_equal(to_uint8(np.array([256, 65535], np.uint16)), [1, 255])


def test_overlay():
    mask = np.zeros((7, 5), np.int32)
    mask[0, 0], mask[0, 1] = 1, 255
    seen = overlay(RGB, mask, alpha=0.5)
    assert np.array_equal(seen[1:], RGB[1:]) and np.array_equal(seen[0, 1], RGB[0, 1])
    assert np.array_equal(seen[0, 0], np.rint(RGB[0, 0] / 2 + np.array([64, 0, 0])))
    assert overlay(GREY[:, :, None], mask).shape == (7, 5, 3)
    assert np.array_equal(overlay(RGB, mask + 1, alpha=0)[1:], RGB[1:])
