"""tinyseg models: the models, their papers and their sizes."""

import inspect
import textwrap
from pathlib import Path

from .common import add_command


def add(commands) -> None:
    p = add_command(commands, "models", models, "The models, their papers and their sizes.")
    p.add_argument("name", nargs="?", metavar="NAME", help="tell all about this one")


def models(options) -> int:
    """tinyseg models"""
    from .. import models as known

    for name in known.names() if options.name is None else [options.name]:
        model = known.create(name, num_classes=21)
        text = inspect.getdoc(type(model)) or ""
        print(f"{name:22}{model.parameter_count():>13,} parameters  {text.splitlines()[0]}")
        if options.name is not None:
            print(
                f"\n{textwrap.indent(text, '    ')}\n\nIts source, {Path(inspect.getfile(type(model))).name}, begins:\n"
            )
            print(textwrap.indent(inspect.getmodule(type(model)).__doc__.strip(), "    "))
    print("\nParameters are those for 3 channels and 21 classes.")
    return 0
