"""The table of candidates, the same in the terminal and in the report."""

from collections.abc import Mapping

COLUMNS = ("loss", "perplexity", "exact match", "ROUGE-L", "seconds", "tokens/s", "memory")


def cells(figures: Mapping[str, float]) -> list[str]:
    """The figures of one candidate, in the order of `COLUMNS`."""
    return [
        f"{figures['loss']:.3f}",
        f"{figures['perplexity']:.4g}",
        f"{figures['exact_match']:.3f}",
        f"{figures['rouge_l']:.3f}",
        f"{figures['seconds']:.1f}",
        f"{figures['tokens_per_s']:.0f}",
        f"{figures['peak_memory_bytes'] / 2**20:.0f} MiB",
    ]
