"""The study manifest: one TOML file that says what is computed and what every patient is promised."""

from polyclinic_common.study.load import load_study, parse_study
from polyclinic_common.study.manifest import Study

__all__ = ["Study", "load_study", "parse_study"]
