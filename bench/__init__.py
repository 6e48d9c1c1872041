"""How fast tinyseg is, beside PyTorch on the same machine and beside what the machine can do: `python -m bench`."""
