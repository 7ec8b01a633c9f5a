"""Who does the tasks of a sweep.

An executor knows nothing of classifiers: it is handed tasks and something that does one, and hands back what came of
each. Rows never pass through it; whoever does a task writes its parts of the run.
"""

from explanation_alignment.executors.base import Done, Executor, Watch, Work
from explanation_alignment.executors.local import LocalExecutor

__all__ = ["Done", "Executor", "LocalExecutor", "Watch", "Work"]
