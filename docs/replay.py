"""What a hospital has spent, from its journal alone: read it, then run it; needs Python only.

    polyclinic client journal show --json --site FOLDER > journal.json
    python replay.py journal.json 1e-5                    # the account's delta

What leaves again counts once. Two draws of one release, which leave where a ledger was put back,
both count, and are an error. Formulas: docs/privacy.md. It refuses accounts with sampled steps,
which need the Renyi filter: `polyclinic client ledger replay` adds those up.
"""

import json
import sys
from math import erfc, exp, inf, sqrt
from pathlib import Path
from statistics import NormalDist

SPARE = 1e-4  # of epsilon and of log delta: the discreteness of the noise


def mu_squared(charge):
    """Gaussian DP of one release; mu^2 adds up."""
    if charge["kind"] == "vote":  # randomised response
        return (2 * NormalDist().inv_cdf(1 / (1 + exp(-charge["epsilon"])))) ** 2
    if charge["kind"] != "gaussian-sum":
        raise SystemExit(f"I cannot add up {charge['kind']}.")
    return charge["sensitivity"] ** 2 / variance(charge)


def variance(charge):
    """Of the normal noise that, rounded, is the noise of so many shares."""
    return charge["shares"] * charge["variance"] - 1 / 12


def delta_of(epsilon, mu):
    """Balle and Wang, Improving the Gaussian mechanism (2018), theorem 8."""
    upper, lower = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    return erfc(upper / sqrt(2)) / 2 - exp(epsilon) * erfc(lower / sqrt(2)) / 2


def epsilon_of(charges, delta):
    """Solve delta_of for epsilon by halving."""
    mu = sqrt(sum(mu_squared(charge) for charge in charges))
    sums = [charge for charge in charges if charge["kind"] == "gaussian-sum"]
    if sum(2 * charge["length"] * 365 / variance(charge) ** 2 for charge in sums) > SPARE:
        return inf
    low, high = 0.0, 300.0
    for _ in range(60 if mu else 0):
        middle = (low + high) / 2
        too_small = delta_of(middle, mu) > delta * exp(-SPARE)
        low, high = (middle, high) if too_small else (low, middle)
    return low + SPARE if mu else 0.0


def take_in(draws, row):
    """Add a row to the draws of its release, each a list of prices: at leaving, then settled."""
    if row["entry"] == "settled":
        if draws:
            list(draws.values())[-1].append(row["cost"])
        return
    older = row["sha256"] if row["kind"] == "private_update" else ""  # same draw, same bytes
    which = row.get("ledger_digest") or older
    if which not in draws:
        draws[which] = draws.pop(older, [row["cost"]])


def main(path, delta):
    """Print what left cost, settled at headline where closing statements came."""
    releases = {}
    for row in json.loads(Path(path).read_text("utf-8")):
        if row["entry"] in {"left", "settled"} and row["cost"]:
            name = row["run"], row["round_number"], row["sum"] or row["sequence"]
            take_in(releases.setdefault(name, {}), row)
    draws = [draw for found in releases.values() for draw in found.values()]
    prices = {"spent": [draw[-1] for draw in draws], "fallback": [draw[0] for draw in draws]}
    epsilons = {price: epsilon_of(charges, delta) for price, charges in prices.items()}
    sys.stdout.write(json.dumps({"releases": len(draws)} | epsilons) + "\n")
    for (run, number, which), found in releases.items():
        if len(found) > 1:
            raise SystemExit(f"L009 {which} of round {number} of run {run}: {len(found)} draws")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
