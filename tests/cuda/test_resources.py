"""Every kernel compiles for the GPUs of today, spills nothing, and occupies no more than the table says."""

import pytest

from tinyseg.cuda import nvrtc

from . import resources

pytestmark = pytest.mark.skipif(bool(nvrtc.available()), reason=f"NVRTC: {nvrtc.available()}")


@pytest.fixture(scope="module")
def found():
    return resources.measured()


def test_no_kernel_spills(found):
    spilling = {key: r for key, r in found.items() if r.spills}
    assert not spilling, f"fewer values at a time, or fewer threads a block: {spilling}"


def test_no_kernel_outgrows_the_table(found):
    version, table = resources.read()
    if version != nvrtc.version():
        pytest.skip(f"the table is of NVRTC {version}, this is {nvrtc.version()}: registers are not compared")
    grown = {
        key: f"{r.registers} registers, {r.shared} bytes; the table has {table.get(key)}"
        for key, r in found.items()
        if key not in table or r.registers > table[key][0] or r.shared > table[key][1]
    }
    assert not grown, f"if that is right: python -m tests.cuda.resources\n{grown}"
    assert table.keys() == found.keys(), f"rows of kernels that are gone: {sorted(table.keys() - found.keys())}"
