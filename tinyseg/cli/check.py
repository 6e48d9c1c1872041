"""tinyseg check: what is in a data set, and what is wrong with it."""

from .common import add_command, progress_line


def add(commands) -> None:
    p = add_command(commands, "check", check, "What is in a data set, and what is wrong with it.")
    p.add_argument("data", metavar="DIR", help="images/ and masks/, or a layout that README names; or a COCO JSON")


def check(options) -> int:
    """tinyseg check"""
    from ..data import check as look

    progress_line()
    found = look(options.data)
    print(found)
    return 0 if found.ok else 1
