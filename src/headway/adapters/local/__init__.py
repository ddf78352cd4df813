"""Local adapters: this machine's processes, files and clock."""

from headway.adapters.local.adoption import stop_strays
from headway.adapters.local.clock import SystemClock
from headway.adapters.local.process import allow_many_files
from headway.adapters.local.replica_stats import LocalReplicaStats
from headway.adapters.local.runtime import LocalRuntime
from headway.adapters.local.scaling_functions import LocalScalingFunctions
from headway.adapters.local.sockets import run_dir_for

__all__ = [
    "LocalReplicaStats",
    "LocalRuntime",
    "LocalScalingFunctions",
    "SystemClock",
    "allow_many_files",
    "run_dir_for",
    "stop_strays",
]
