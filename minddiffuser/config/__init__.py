"""Configuration: one YAML file an experiment, checked in full before anything heavy starts.

Every default stands once, in the section that it belongs to, with its unit and source. A rival has a module here, with
its section and its forms, and a field in `Experiment`.
"""

from minddiffuser.config.experiment import Config, Experiment
from minddiffuser.config.loading import load
from minddiffuser.config.section import REPOSITORY, ConfigError

__all__ = ["REPOSITORY", "Config", "ConfigError", "Experiment", "load"]
