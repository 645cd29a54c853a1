"""The study manifest: what is computed and what every patient is promised, in one TOML file."""

from polyclinic_common.study.load import load_study, parse_study
from polyclinic_common.study.manifest import Study

__all__ = ["Study", "load_study", "parse_study"]
