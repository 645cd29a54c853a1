"""Studies that come with Polyclinic: a manifest and a loader each, never data."""

from polyclinic_simulations.studies.registry import BUILT_IN, resolve

__all__ = ["BUILT_IN", "resolve"]
