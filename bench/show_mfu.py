"""Tokens/s, model FLOPs utilisation and peak memory of a bench, for people.

python bench/show_mfu.py FOLDER/bench.json
"""

import json
import sys
from pathlib import Path

# Dense bfloat16 FLOP/s as the maker's data sheets give them, by a part of the name that CUDA reports.
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}


def main() -> None:
    bench = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    device = next(iter(bench["environment"]["devices"]), "CPU")
    dtype, limit = next(iter(bench["limits"].items()))  # a CPU may run bfloat16 weights in float32
    peak = next((peak for name, peak in PEAKS.items() if name in device), None)
    print(f"{device}: matrix products in {dtype} reach {limit / 1e12:.3g} TFLOP/s", end="")
    print(f", {limit / peak:.0%} of the {peak / 1e12:.0f} on its data sheet" if peak else ", which MFU is a share of")
    print(f"{'':22}{'executed tok/s':>15}{'logical tok/s':>15}{'MFU':>7}{'peak memory':>14}")
    for name, figures in bench["contenders"].items():
        share = figures["limit_share"] * figures["limit_flops_per_s"] / (peak or limit)
        print(
            f"{name:22}{figures['tokens_executed_per_s']:15.0f}{figures['tokens_logical_per_s']:15.0f}{share:7.1%}"
            f"{figures['peak_memory_bytes'] / 2**30:10.2f} GiB"
        )
    for name, reason in {**bench["missing"], **bench["failed"]}.items():
        print(f"{name:22} no figures: {reason}")


if __name__ == "__main__":
    main()
