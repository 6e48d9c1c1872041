"""Structured prediction: dense CRF, graph cuts, superpixels. Arrays in, arrays out, NHWC as everywhere."""

from ..crf_presets import CRF_PRESETS
from .alpha_expansion import alpha_expansion, labelling_energy
from .crf_rnn import NormalizedFilter, crf_as_rnn
from .crf_settings import search_crf
from .dense_crf import bilateral_features, dense_crf, label_probabilities, pixel_features
from .gaussian import ExactGaussian
from .graph_cut import grid_edges, max_flow
from .permutohedral import Lattice, lattice_filter
from .superpixels import adjacency, felzenszwalb, lab_of, slic

__all__ = [
    "CRF_PRESETS",
    "ExactGaussian",
    "Lattice",
    "NormalizedFilter",
    "adjacency",
    "alpha_expansion",
    "bilateral_features",
    "crf_as_rnn",
    "dense_crf",
    "felzenszwalb",
    "grid_edges",
    "lab_of",
    "label_probabilities",
    "labelling_energy",
    "lattice_filter",
    "max_flow",
    "pixel_features",
    "search_crf",
    "slic",
]
