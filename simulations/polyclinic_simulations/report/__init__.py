"""The report of a simulation: one HTML page that opens offline."""

from polyclinic_simulations.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
