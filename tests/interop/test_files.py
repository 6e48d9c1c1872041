"""Files of weights: what is read comes out as it went in, and what is more than tensors is refused, never run."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from tinyseg.interop import FileError, read
from tinyseg.interop.files import LEGACY_MAGIC


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def row(values) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(
    key, count, shape, strides, offset=0, storage="torch\nFloatStorage\n", call="torch._utils\n_rebuild_tensor_v2\n"
):
    """The instructions that PyTorch writes for one tensor."""
    told = b"(" + text("storage") + b"c" + storage.encode() + text(key) + text("cpu") + whole(count) + b"tQ"
    return (
        b"c"
        + call.encode()
        + b"("
        + told
        + whole(offset)
        + row(shape)
        + row(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def pth(
    path, tensors: dict[str, bytes], storages: dict[str, np.ndarray], compression=zipfile.ZIP_STORED, order="little"
):
    body = b"ccollections\nOrderedDict\n)R(" + b"".join(text(name) + made for name, made in tensors.items()) + b"u"
    with zipfile.ZipFile(path, "w", compression) as members:
        members.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        members.writestr("archive/byteorder", order)
        for key, values in storages.items():
            members.writestr(f"archive/data/{key}", values.tobytes())
    return path


def test_tensors_share_storages_and_have_strides(tmp_path):
    values = np.arange(12, dtype=np.float32)
    path = pth(
        tmp_path / "a.pth",
        {
            "whole": tensor("0", 12, (3, 4), (4, 1)),
            "turned": tensor("0", 12, (4, 3), (1, 4)),
            "end": tensor("0", 12, (2,), (1,), 10),
            "ids": tensor("1", 2, (2,), (1,), storage="torch\nLongStorage\n"),
            "half": tensor("2", 2, (2,), (1,), storage="torch\nBFloat16Storage\n"),
            "one": tensor("0", 12, (), (), 7),
            "none": tensor("0", 12, (0, 3), (3, 1)),
        },
        {"0": values, "1": np.array([3, -4]), "2": np.array([0x3F80, 0xC000], np.uint16)},
    )
    found = read(path)
    np.testing.assert_array_equal(found["whole"], values.reshape(3, 4))
    np.testing.assert_array_equal(found["turned"], values.reshape(3, 4).T)
    np.testing.assert_array_equal(found["end"], [10, 11])
    np.testing.assert_array_equal(found["ids"], [3, -4])
    np.testing.assert_array_equal(found["half"], np.float32([1, -2]))
    assert found["one"] == 7 and found["none"].shape == (0, 3)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path, monkeypatch, protocol, zipped):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"weight": Harm()}, protocol)
    if zipped:
        with zipfile.ZipFile("a.pth", "w") as members:
            members.writestr("archive/data.pkl", data)
    else:
        (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(FileError, match="a.pth: .*(refused|not trusted)"):
        read("a.pth")
    assert not (tmp_path / "harm").exists()
    pickle.loads(data)  # so that the test can fail
    assert (tmp_path / "harm").exists()


ONE = {"0": np.zeros(4, np.float32)}


@pytest.mark.parametrize(
    "made, message",
    [
        (tensor("0", 4, (5,), (1,)), "reaches beyond its storage of 4"),
        (tensor("0", 4, (2,), (4,)), "reaches beyond"),
        (tensor("0", 4, (9, 9), (0, 0)), "reaches beyond"),
        (tensor("0", 4, (2,), (1,), -1), "offset -1"),
        (tensor("0", 4, (2,), (-1,)), "strides"),
        (tensor("0", 4, (2,), (1, 1)), "strides"),
        (tensor("0", 4, (4,), (1,), storage="torch\nQUInt8Storage\n"), "storage"),
        (tensor("0", 4, (4,), (1,), storage="elsewhere\nFloatStorage\n"), "storage"),
        (tensor("0", 4, (4,), (1,), call="torch._utils\n_rebuild_sparse_tensor\n"), "_rebuild_sparse_tensor"),
        (tensor("7", 4, (4,), (1,)), "archive/data/7"),
        (whole(3), "holds no tensors, only weight"),
    ],
)
def test_tensors_that_make_no_sense(tmp_path, made, message):
    with pytest.raises(FileError, match=message):
        read(pth(tmp_path / "a.pth", {"weight": made}, ONE))


def endless(depth: int = 64) -> bytes:
    """Instructions for a tuple of two tuples of two tuples ...: few bytes, 2^64 leaves."""
    return b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(depth))


@pytest.mark.parametrize(
    "made, message",
    [
        (endless(), "holds no tensors"),
        (b"}" + endless() + b"Ns", "a key that is a tuple"),
        (b"ccollections\nOrderedDict\n(]" + endless() + b"N\x86atR", "a key that is a tuple"),
        (endless() + b")R", "call a tuple"),
        (endless() + b"Q", "it holds a tuple"),
        (b"(" + text("storage") + endless() + text("0") + text("cpu") + whole(4) + b"tQ", "storage a tuple"),
        (tensor("0", 4, (4,), (1,)).replace(text("0"), endless(), 1), "storage 'torch FloatStorage' a tuple"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(" + endless() + whole(0) + row([4]) + row([1]) + b"tR", "tensor of a"),
        (b"]q\x00h\x00a", "holds no tensors"),
    ],
    ids=range(9),
)
def test_values_without_an_end_are_not_walked(tmp_path, made, message):
    """Each would take centuries, by its hash, its text or its leaves."""
    with pytest.raises(FileError, match=message):
        read(pth(tmp_path / "a.pth", {"weight": made}, ONE))


@pytest.mark.parametrize(
    "value, keys", [(endless(), b"]"), (b"]q\x00h\x00a", b"]"), (b"}", b"]" + endless() + b"a")], ids="abc"
)
def test_old_files_without_an_end_are_not_walked(tmp_path, value, keys):
    parts = (pickle.dumps(LEGACY_MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2))
    path = tmp_path / "a.pth"
    path.write_bytes(b"".join(parts) + b"\x80\x02" + value + b"." + b"\x80\x02" + keys + b"." + bytes(8))
    with pytest.raises(FileError, match="belongs to no tensor|expected a dictionary of tensors|holds no tensors"):
        read(path)


def test_bytes_are_counted_once(tmp_path):
    entry = '{"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}'
    with pytest.raises(FileError, match="more bytes than the file has"):
        read(safetensors(tmp_path / "a.safetensors", f'{{"v": {entry}, "w": {entry}}}', bytes(8)))
    marks = b"".join([whole(1)] * 20_000 + [b"(t"] * 20_000)
    with pytest.raises(FileError, match="holds no tensors"):  # and this in a moment, not in minutes
        read(pth(tmp_path / "a.pth", {"weight": b"(" + marks + b"t"}, ONE))
    path = pth(tmp_path / "b.pth", {"w": tensor("0", 4, (4,), (1,))}, ONE)
    data = path.read_bytes()
    size = struct.pack("<LL", 16, 16)
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, struct.pack("<LL", 1 << 20, 1 << 20)))
    with pytest.raises(FileError, match="more bytes than the file has"):
        read(path)


def test_containers_that_make_no_sense(tmp_path):
    good = {"w": tensor("0", 4, (4,), (1,))}
    with pytest.raises(FileError, match="compressed; cure"):
        read(pth(tmp_path / "a.pth", good, ONE, zipfile.ZIP_DEFLATED))
    with pytest.raises(FileError, match="big-endian"):
        read(pth(tmp_path / "b.pth", good, ONE, order="big"))
    (tmp_path / "c.pth").write_bytes(b"nothing of the kind")
    with pytest.raises(FileError, match="c.pth: not a file of weights"):
        read(tmp_path / "c.pth")
    (tmp_path / "d.pth").write_bytes(pth(tmp_path / "e.pth", good, ONE).read_bytes()[:-40])
    with pytest.raises(FileError, match="d.pth"):
        read(tmp_path / "d.pth")
    with pytest.raises(FileError, match="cannot be read"):
        read(tmp_path / "missing.pth")
    (tmp_path / "f.pth").write_bytes(pickle.dumps(12))
    with pytest.raises(FileError, match="not a file of weights"):
        read(tmp_path / "f.pth")


def safetensors(path, header: str, body: bytes):
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + body)
    return path


def test_safetensors(tmp_path):
    body = np.float32([[1, 2, 3], [4, 5, 6]]).tobytes() + np.array([0x3F80], np.uint16).tobytes()
    header = (
        '{"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, '
        '"b": {"dtype": "BF16", "shape": [1], "data_offsets": [24, 26]}}'
    )
    found = read(safetensors(tmp_path / "a.safetensors", header, body))
    np.testing.assert_array_equal(found["w"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found["b"], [1])
    for wrong, message in (("[0, 23]", "does not fit"), ("[0, 99]", "does not fit"), ("[-4, 20]", "does not fit")):
        with pytest.raises(FileError, match=message):
            read(safetensors(tmp_path / "b.safetensors", header.replace("[0, 24]", wrong), body))
    with pytest.raises(FileError, match="dtype F8_E4M3"):
        read(safetensors(tmp_path / "b.safetensors", header.replace("BF16", "F8_E4M3"), body))


def test_npz_is_read_without_pickle(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(read(tmp_path / "a.npz")["w"], np.ones((2, 3)))
    np.savez(tmp_path / "b.npz", w=np.array([Harm()], object))
    with pytest.raises(FileError, match="b.npz"):
        read(tmp_path / "b.npz")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_pytorch_itself_writes(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = layer.state_dict()
    state["part"] = torch.nn.Parameter(torch.arange(12.0, dtype=torch.float64).reshape(3, 4)[1:, ::2])
    state["brain"] = torch.ones(2, dtype=torch.bfloat16)
    file = io.BytesIO()
    torch.save({"model": state, "epoch": 3, "note": "best"}, file, _use_new_zipfile_serialization=zipped)
    (tmp_path / "a.pth").write_bytes(file.getvalue())
    found = read(tmp_path / "a.pth")
    assert list(found) == list(state)
    for name, value in state.items():
        expected = value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
    torch.save(layer, tmp_path / "b.pth", _use_new_zipfile_serialization=zipped)  # a model, not its state
    with pytest.raises(FileError, match="refused|not trusted"):
        read(tmp_path / "b.pth")
