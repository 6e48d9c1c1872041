"""tinyseg devices: where tinyseg can compute on this machine."""

from .common import add_command


def add(commands) -> None:
    add_command(commands, "devices", devices, "Where tinyseg can compute on this machine.")


def devices(options) -> int:
    """tinyseg devices"""
    from ..device import usable_devices

    for name, words in usable_devices().items():
        print(f"{name:10}{words}")
    return 0
