"""tinyseg models: the models, their papers and their sizes; what one of them takes before it is run."""

import inspect
import textwrap
from pathlib import Path

from .common import (
    UsageError,
    add_command,
    count,
)


def add(commands) -> None:
    p = add_command(commands, "models", models, "The models, their papers and their sizes.")
    p.add_argument("name", nargs="?", metavar="NAME", help="tell all about this one: its recipe, memory and work")
    p.add_argument("--size", type=count, nargs="+", default=[512], metavar="N", help="height [and width] (512)")
    p.add_argument("--batch", type=count, default=1, metavar="N", help="images a step (1)")
    p.add_argument("--recompute", action="store_true", help="blocks keep their inputs alone, as in tinyseg train")
    p.add_argument("--classes", type=count, default=21, metavar="N", help="(21)")
    p.add_argument("--channels", type=count, default=3, metavar="N", help="of an image (3)")


def models(options) -> int:
    """tinyseg models"""
    from .. import models as known
    from ..nn import no_init

    if len(options.size) > 2:
        raise UsageError(f"--size {' '.join(map(str, options.size))}: expected one side, or height and width")
    names = known.names() if options.name is None else [options.name]
    for name in names:
        with no_init():
            model = known.create(name, options.classes, options.channels)
        text = inspect.getdoc(type(model)) or ""
        what = text.splitlines()[0] if options.name is None else ""  # of one alone all is told below
        print(f"{name:25}{model.parameter_count():>13,} parameters  {what}".rstrip())
    if options.name is not None:
        tell(options, model, text)
    print(f"\nParameters are those for {options.channels} channels and {options.classes} classes.")
    return 0


def tell(options, model, text: str) -> None:
    """All about one model: its docstring, the paper's recipe, memory and work at --size and --batch, its source."""
    print(f"\n{textwrap.indent(text, '    ')}")
    if recipe := getattr(model, "recipe", None):
        print(f"\nThe recipe of its paper (tinyseg train --model {options.name} --recipe paper):\n")
        print(textwrap.indent(str(recipe), "    "))
    print(f"\n{textwrap.indent(cost(options, model), '    ')}")
    print(f"\nIts source, {Path(inspect.getfile(type(model))).name}, begins:\n")
    print(textwrap.indent(inspect.getmodule(type(model)).__doc__.strip(), "    "))


def cost(options, model) -> str:
    """What a step of --batch images of --size takes on the CPU, by the model's own rules for sizes."""
    from .. import models as known
    from ..estimate import estimate

    if getattr(model, "task", "semantic") == "instance":
        return "work and memory depend on how many objects are found"
    valid = getattr(model, "valid_size", lambda n: n)
    size = tuple(valid(n) for n in (options.size * 2)[:2])
    found = estimate(lambda: known.create(options.name, options.classes, options.channels), size, options.batch,
                     options.channels, recompute=options.recompute)  # fmt: skip
    return f"{options.batch} x {size[0]} x {size[1]} pixels, SGD with momentum: {found}"
