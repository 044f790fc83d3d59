"""Each task: records to arrays, arrays to results, and a report. A task knows no engine."""
