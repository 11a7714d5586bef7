//! Sizes, percentages and durations as people write them. Knows text and numbers, no I/O.
