"""Checkpoints: what goes in comes out, and nothing else ever does."""

import io
import json
import threading
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg import checkpoint
from tinyseg.checkpoint import CheckpointError, load, read, save, write


class Stub:
    """As much of a model as a checkpoint looks at."""

    config = {"name": "stub", "num_classes": 2, "in_channels": 3}

    def __init__(self, seed=0, width=4):
        rng = np.random.default_rng(seed)
        self.state = {
            "conv.weight": rng.random((3, 3, 3, width), np.float32),
            "norm.mean": rng.random(width, np.float32),
        }

    def state_dict(self):
        return dict(self.state)

    def load_state_dict(self, state):
        self.state = dict(state)

    def to(self, device):
        return self

    def eval(self):
        return self


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_a_model_comes_back_with_what_it_was_told(tmp_path):
    model, path = Stub(), tmp_path / "folder" / "model.npz"
    save(
        path,
        model,
        class_names=["cell", "wall"],
        palette=[(0, 0, 0), (255, 0, 9)],
        mean=[0.1, 0.2, 0.3],
        std=np.ones(3),
        metrics={"mean_iou": np.float32(0.5), "absent": np.nan},
    )
    other = load(path, model=Stub(seed=1))
    assert equal(other.state, model.state)
    assert other.info.class_names == ["cell", "wall"] and other.info.palette == [[0, 0, 0], [255, 0, 9]]
    assert other.info.mean == [0.1, 0.2, 0.3] and other.info.metrics == {"mean_iou": 0.5, "absent": None}


def test_a_model_that_was_told_nothing_is_saved_with_plain_defaults(tmp_path):
    save(tmp_path / "m.npz", Stub())
    info = load(tmp_path / "m.npz", model=Stub()).info
    assert info.class_names == ["class 0", "class 1"] and info.mean == [0, 0, 0] and info.std == [1, 1, 1]


def test_numpy_reads_it_without_pickle_and_equal_models_are_equal_files(tmp_path):
    save(tmp_path / "a.npz", Stub())
    save(tmp_path / "b.npz", Stub())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert json.loads(file["header"].tobytes())["format"] == "tinyseg"
        assert file["model/conv.weight"].shape == (3, 3, 3, 4)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@given(
    st.dictionaries(
        st.text("ab/._ü", min_size=1, max_size=8),
        st.tuples(st.sampled_from(["f4", "f8", "i4", "i8", "u1", "?"]), st.lists(st.integers(0, 4), max_size=3)),
    )
)
def test_every_dtype_and_shape_comes_back(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("entries") / "x.npz"
    arrays = {f"x/{name}": np.ones(shape, dtype) for name, (dtype, shape) in entries.items()}
    write(path, {"deep": {"numbers": [1, 2**100, 0.1]}}, arrays)
    header, found = read(path)
    assert equal(found, arrays) and header["deep"]["numbers"] == [1, 2**100, 0.1]


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "m.npz"
    save(path, Stub())
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match="m.npz: cannot be written .*No space left"):
        save(path, Stub(seed=5))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file/m.npz", "a" * 245 + ".npz", "folder"])
def test_a_place_that_cannot_be_says_so(tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(tmp_path / name, Stub())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@given(cut=st.floats(0, 0.9999))
def test_a_truncated_file_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "m.npz"
    save(path, Stub())
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(CheckpointError, match="m.npz"):
        load(path, model=Stub())


@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), length=st.integers(1, 8))
def test_a_damaged_file_gives_an_error_or_the_right_model(tmp_path_factory, at, flip, length):
    model, path = Stub(), tmp_path_factory.mktemp("damage") / "m.npz"
    save(path, model)
    data = bytearray(path.read_bytes())
    start = int(at * len(data))
    for i in range(start, min(start + length, len(data))):
        data[i] ^= flip
    path.write_bytes(data)
    try:
        other = load(path, model=Stub(seed=1))
    except CheckpointError as error:
        assert "m.npz" in str(error)
    else:
        assert equal(other.state, model.state)


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            if not isinstance(data, bytes):
                buffer = io.BytesIO()
                np.save(buffer, data, allow_pickle=True)
                data = buffer.getvalue()
            file.writestr(f"{name}.npy", data)


def header(**fields):
    base = {
        "format": "tinyseg",
        "version": 1,
        "config": Stub.config,
        "class": "Stub",
        "info": {"class_names": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]], "mean": [0, 0, 0], "std": [1, 1, 1]},
    }
    return np.frombuffer(json.dumps({**base, **fields}).encode(), np.uint8)


WEIGHTS = {f"model/{name}": a for name, a in Stub().state.items()}
HUGE = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117)
    + b"\n"
)

HOSTILE = {
    "objects": ({"header": header(), "model/conv.weight": np.array([{"a": 1}, print], object)}, "truncated, damaged"),
    "no header": ({"weight": np.ones(3)}, "no header"),
    "header of words": ({"header": np.array(["text"])}, "damaged"),
    "header no JSON": ({"header": np.frombuffer(b"{]", np.uint8)}, "damaged"),
    "header deep": ({"header": np.frombuffer(b"[" * 100_000, np.uint8)}, "damaged"),
    "header a list": ({"header": np.frombuffer(b"[1]", np.uint8)}, "damaged"),
    "other program": ({"header": header(format="other")}, "not a checkpoint of tinyseg"),
    "from the future": ({"header": header(version=99)}, "version 99.*newer tinyseg"),
    "asks for memory": ({"header": header(), "model/conv.weight": HUGE}, "damaged"),
    "wrong shape": (
        {"header": header(), **WEIGHTS, "model/norm.mean": np.ones(7)},
        r"norm.mean has shape \(7,\).*expects \(4,\)",
    ),
    "weight missing": ({"header": header(), "model/norm.mean": np.ones(4)}, "lacks conv.weight"),
    "weight too many": ({"header": header(), **WEIGHTS, "model/more": np.ones(4)}, "has more too many"),
    "info missing": ({"header": header(info={"class_names": ["a"]}), **WEIGHTS}, "makes no sense"),
    "info wrong": (
        {"header": header(info={"class_names": 3, "palette": {}, "mean": "x", "std": None}), **WEIGHTS},
        "makes no sense",
    ),
    "info unknown": ({"header": header(info={"run": "rm"}), **WEIGHTS}, "makes no sense"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path, case):
    members, message = HOSTILE[case]
    path = tmp_path / "h.npz"
    archive(path, members)
    with pytest.raises(CheckpointError, match=f"h.npz: .*{message}"):
        load(path, model=Stub())


def test_a_bomb_is_refused_before_it_unpacks(tmp_path):
    path = tmp_path / "bomb.npz"
    archive(path, {"header": header(), "model/conv.weight": np.zeros(10_000_000, np.float32)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        load(path, model=Stub())


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    (tmp_path / "text.npz").write_text("weights")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, message in (
        ("other", "no header"),
        ("text", "damaged"),
        ("empty", "damaged"),
        ("absent", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=f"{name}.npz: .*{message}"):
            load(tmp_path / f"{name}.npz", model=Stub())
    with pytest.raises(CheckpointError, match="a folder; cure: .*best.npz"):
        load(tmp_path)


def test_wrong_numbers_of_classes_are_refused_on_saving(tmp_path):
    with pytest.raises(CheckpointError, match="3 class_names but the model has 2 classes"):
        save(tmp_path / "m.npz", Stub(), class_names=["a", "b", "c"])


@pytest.mark.parametrize("config", [
    {"name": "unet", "num_classes": 2, "width": 10**9}, {"name": "unet", "num_classes": 2, "depth": 60},
    {"name": "unet", "num_classes": 2, "width": -1}, {"name": "unet", "num_classes": "many"}, {"name": "unet"},
    {"name": "unet", "num_classes": 2, "run": 1}, {"name": ["unet"]}, {"name": "no such"}, {}, None, "unet",
])  # fmt: skip
def test_a_header_cannot_ask_for_what_the_weights_do_not_bear_out(tmp_path, config):
    archive(tmp_path / "h.npz", {"header": header(config=config), **WEIGHTS})
    with pytest.raises(CheckpointError, match="h.npz: "):
        load(tmp_path / "h.npz")


def test_what_cannot_be_saved_changes_nothing(tmp_path):
    model = Stub()
    save(tmp_path / "m.npz", model, class_names=["cell", "wall"])
    for wrong in (
        {"class_names": ["a", "b", "c"]},
        {"palette": [(0, 0, 0)]},
        {"palette": [0, 1]},
        {"palette": [(0, 0, 0), (256, 0, 0)]},
        {"palette": [(0, 0, 0), (-1, 0, 0)]},
        {"std": [0.5, 0.5, 0.0]},
        {"mean": [0.5]},
        {"std": [0.5, 0.5]},
    ):
        with pytest.raises(CheckpointError, match=f"save: .*{next(iter(wrong))}"):
            save(tmp_path / "m.npz", model, **wrong)
    save(tmp_path / "n.npz", model)
    assert load(tmp_path / "n.npz", model=Stub()).info.class_names == ["cell", "wall"]


def test_the_palette_of_a_data_set_is_cut_to_the_classes(tmp_path):
    palette = np.arange(768).reshape(256, 3) % 256
    save(tmp_path / "m.npz", Stub(), palette=palette)
    assert load(tmp_path / "m.npz", model=Stub()).info.palette == [[0, 1, 2], [3, 4, 5]]


def test_a_model_may_have_more_classes_than_the_palette_has_colours(tmp_path):
    model = Stub()
    model.config = {"name": "stub", "num_classes": 300, "in_channels": 3}
    save(tmp_path / "m.npz", model)
    assert len(load(tmp_path / "m.npz", model=Stub()).info.palette) == 300


def test_two_threads_write_beside_each_other(tmp_path):
    names, both = [], threading.Barrier(2)

    def content(file):
        names.append(file.name)
        both.wait(10)
        file.write(b"whole")

    threads = [threading.Thread(target=checkpoint.write_atomically, args=(tmp_path / "f", content)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 2 and [p.name for p in tmp_path.iterdir()] == ["f"]
