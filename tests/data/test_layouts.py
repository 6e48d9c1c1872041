import subprocess
import sys

import pytest

import tinyseg.data
from tinyseg.data import DataError


def test_open_says_what_it_expected_and_what_it_found(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"expected images/ \+ masks/.*trainannot/.*JPEGImages/.*found photos/"):
        tinyseg.data.open(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        tinyseg.data.open(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: a file; a data set is a folder with"):
        tinyseg.data.open(tmp_path / "file")


def test_import_is_light():
    code = "import sys, tinyseg.data; print(*({'PIL', 'numba', 'cupy', 'tinyseg.ops'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
