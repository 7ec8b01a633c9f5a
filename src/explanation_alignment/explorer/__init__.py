"""The explorer: a local web page over a run's tables. Reads tables only; the extra ``explorer`` serves it."""
