#!/usr/bin/env python3
"""Draws what checkpoints have uploaded: plot-sizes.py RESULTS.jsonl PLOT.png (needs matplotlib)."""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
runs = [line for line in lines if "uploaded" in line]
figure, (uploaded, whole) = plt.subplots(1, 2, figsize=(12, 4.5), sharex=True)
for run in runs:
    checkpoints = range(1, len(run["uploaded"]) + 1)
    uploaded.plot(checkpoints, [b / 2**20 for b in run["uploaded"]], label=run["contender"])
    whole.plot(checkpoints, [b / 2**20 for b in run["whole"]], label=run["contender"])
share = 100 * runs[-1]["dirty"] / runs[-1]["customers"]
uploaded.set(title=f"uploaded by each checkpoint, {share:g} % of keys changed", ylabel="MiB", yscale="log")
whole.set(title="whole state that it names", ylabel="MiB", ylim=(0, None))
for axis in (uploaded, whole):
    axis.set_xlabel("checkpoint")
    axis.grid(alpha=0.3)
whole.legend()
figure.tight_layout()
figure.savefig(sys.argv[2], dpi=110)
