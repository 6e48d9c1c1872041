"""The options of `tinyseg train` as the tests of its parts want them."""

import argparse

from tinyseg.cli.train import TRAIN


def options(**changes):
    return argparse.Namespace(**{**TRAIN, "lr": 1e-3, "warmup": 0, "clip": 0.0, "schedule": "poly", **changes})
