r"""How often a stable hospital may be alarmed: at most once in 60 looks, on average.

A look is one run of the monitor on a table that has grown; the same table again gives the same
answer and costs nothing. Expected numbers add up whatever depends on what, so the bound holds by
arithmetic, for every number of columns, patients and looks, before and after any look:

- *calibration* (the CUSUM): an alarm that the look before did not give has probability at most
  :math:`0.9/60` at each look, and a look in alarm at most twice that
  (:func:`polyclinic_client.watch.limits.limits`): at most 0.9 alarms begin in 60 looks;
- *tilt* (predictions that spread more than outcomes, larger errors): a look in alarm has
  probability at most :math:`0.05/60`: at most 0.05 looks in 60;
- *inputs*, all columns and tests together: the false-discovery rate of a look is at most
  :math:`0.05/60`. Where nothing has changed every discovery is false, so that this is the
  probability of any (:func:`polyclinic_client.watch.discoveries.yekutieli`): at most 0.05 looks.

0.9 + 0.05 + 0.05 = 1. The CUSUM gets most of it because it has least to go by: a wrong unit is seen
at any budget, while a shift of 0.5 on the logit among 200 patients is three standard deviations.
"""

from __future__ import annotations

LOOKS = 60
CALIBRATION = 0.9 / LOOKS
TILT = 0.05 / LOOKS
INPUTS = 0.05 / LOOKS
FEWEST = 20
"""Known outcomes below which nothing is said of performance."""
