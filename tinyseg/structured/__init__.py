"""Structured prediction: dense CRF, graph cuts, superpixels. Arrays in, arrays out, NHWC as everywhere."""

from .alpha_expansion import alpha_expansion, labelling_energy
from .graph_cut import grid_edges, max_flow

__all__ = ["alpha_expansion", "grid_edges", "labelling_energy", "max_flow"]
