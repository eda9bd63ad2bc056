"""Synthetic data in the layout of MIMIC-IV v2: `python -m flows.synthetic --out DIR --stays 1000`."""
