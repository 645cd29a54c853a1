"""A process that runs one variant of job J: ``python -m … VARIANT SIZE`` (SIZE as JSON).

Heavy libraries are imported by the variant that needs them, so that its start to finish is its own.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from polyclinic_simulations.bench.size import Size

BARE = "bare-opacus"


def run_variant(variant: str, size: Size) -> float:
    """Run a variant, named ENGINE-GRADIENTS or `bare-opacus`; return the seconds of its rounds."""
    if variant == BARE:
        from polyclinic_simulations.bench import bare  # noqa: PLC0415  (no federation code)

        return bare.train(size)
    from polyclinic_simulations.bench import federated  # noqa: PLC0415  (not for the bare loop)

    engine, gradients = variant.split("-")
    if gradients == "opacus":  # as the bare loop, before the rounds are timed
        import polyclinic_client.compute.gradients  # noqa: F401, PLC0415  (heavy)
    return sum(federated.train(federated.made_up_federation(size), gradients, engine))


def peak_mb() -> float:
    """Return the most memory this process has held so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def size_from(text: str) -> Size:
    """Read a size from JSON."""
    fields: dict[str, Any] = json.loads(text)
    return Size(**{**fields, "hidden": tuple(fields["hidden"])})


def main() -> None:
    """Run a variant and write one line of JSON."""
    variant, size = sys.argv[1:]
    seconds = run_variant(variant, size_from(size))
    sys.stdout.write(json.dumps({"rounds_s": seconds, "peak_mb": peak_mb()}) + "\n")


if __name__ == "__main__":
    main()
