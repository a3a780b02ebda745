//! Benchmarks against peers, in one run, interleaved, by CPU-seconds.
