"""Who does the tasks of a sweep: this process, one after another, or a Ray cluster.

An executor knows nothing of classifiers: it is handed tasks and something that does one, and hands back what came of
each. Rows never pass through it; whoever does a task writes its parts of the run. How tasks are scheduled, retried and
given their GPUs is Ray's business.
"""

from explanation_alignment.executors.base import Done, Executor, Watch, Work, free_memory
from explanation_alignment.executors.by_name import executor_named
from explanation_alignment.executors.local import LocalExecutor
from explanation_alignment.executors.ray import RayExecutor

__all__ = ["Done", "Executor", "LocalExecutor", "RayExecutor", "Watch", "Work", "executor_named", "free_memory"]
