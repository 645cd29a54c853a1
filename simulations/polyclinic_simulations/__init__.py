"""A whole federation on one machine: the same client and server code, with honest baselines.

``simulate`` is the call behind ``polyclinic simulate``; it is imported when it is first used, since
it is heavy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyclinic_simulations.sweep.simulation import simulate

__all__ = ["simulate"]


def __getattr__(name: str) -> object:
    """Import `simulate` on first use."""
    if name == "simulate":
        from polyclinic_simulations.sweep.simulation import simulate  # noqa: PLC0415

        return simulate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
