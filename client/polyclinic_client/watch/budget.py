r"""How often a stable hospital may be alarmed: at most once in 60 looks, on average.

A look is one run of the monitor on a table that has grown; the same table again gives the same
answer and costs nothing. Stable means: the model is right for these patients, one row each and
independent of each other, and whether an outcome is known by now does not depend on what it is.

- *calibration* (the CUSUM): a look in alarm has probability at most :math:`1.8/60`, and an alarm
  that the look before did not give at most :math:`0.9/60`
  (:func:`polyclinic_client.watch.limits.limits`). The second holds where every earlier look is
  found again: all looks are in the log, rows stay as they were, outcomes become known in the order
  of rows, the model was not refitted in between, and for numbers an error was released. Where none
  is in the log it bounds a look in alarm, too;
- *tilt* (predictions that spread more than outcomes, larger errors): a look in alarm has
  probability at most :math:`0.05/60`: at most 0.05 looks in 60;
- *inputs*, all columns and tests together: the false-discovery rate of a look is at most
  :math:`0.05/60`. Where nothing has changed every discovery is false, so that this is the
  probability of any (:func:`polyclinic_client.watch.discoveries.yekutieli`): at most 0.05 looks.

Expected numbers add up however looks depend on each other: 0.9 + 0.05 + 0.05 = 1. Where outcomes
become known out of order, and for survival, whose earlier patients are followed on between looks,
1.8 + 0.05 + 0.05 = 1.9 is what is proven; an alarm that lasts is one then, too, and the bound on
looks in alarm bounds those that begin. Exact are the limits for yes and no; for numbers if errors
lie above and below alike on the scale of the model. For survival they are close
(:mod:`polyclinic_client.watch.limits`), and the check of a larger error takes means as normal.

The CUSUM gets most of it because it has least to go by: a wrong unit is seen at any budget, while a
shift of 0.5 on the logit among 200 patients is three standard deviations.
"""

from __future__ import annotations

LOOKS = 60
CALIBRATION = 0.9 / LOOKS
TILT = 0.05 / LOOKS
INPUTS = 0.05 / LOOKS
FEWEST = 20
"""Known outcomes below which nothing is said of performance."""
