"""How well the reliance rule tells classifiers with a planted shortcut from those without, on seeds it was not set on.

    python simulations/shortcut_flags.py runs/planted

trains and evaluates 126 small classifiers (9 planted and 9 clean ones for each of 7 seeds; resumes what is there), then
sets thresholds on the first 3 seeds and judges them on the other 4, 72 classifiers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score

import explanation_alignment as ea
from explanation_alignment.statistics.relying.region_reliance import MARGIN, VERDICTS
from planted import CUES, STRENGTHS, evaluate_all, plans

CALIBRATION_SEEDS = (0, 1, 2)
HELD_OUT_SEEDS = (3, 4, 5, 6)
#: What could be thresholded, beside the rule's own score.
SCORES = {
    "IoU": pl.col("iou"),
    "hits": pl.col("hits"),
    "lift": pl.col("lift"),
    "excess over centre": pl.col("excess"),
    "intervention": pl.col("flip_difference"),
    "rule (both)": pl.col("shortcut_score"),
}


#: Tried for both thresholds of the rule; the smallest without a false alarm on the calibration seeds is the default.
THRESHOLDS = (0.0, 0.01, 0.02, 0.03, 0.05)


def judged(run: ea.Run, threshold: float = MARGIN) -> pl.DataFrame:
    """The reliance table of the cue, with what was planted."""
    name = pl.col("model").str.split("-")
    return (
        ea.reliance(run, margin=threshold, min_flip=threshold)
        .filter(pl.col("region") == "cue")
        .with_columns(
            cue=name.list[0],
            strength=name.list[1].cast(pl.Float64),
            group=name.list[2].cast(pl.Int64) % 1000,
        )
        .with_columns(planted=pl.col("strength") > 0)
    )


def auc_interval(truth: np.ndarray, score: np.ndarray, resamples: int = 2000) -> tuple[float, float, float]:
    """Area under the ROC curve with a stratified percentile bootstrap over classifiers."""
    rng = np.random.default_rng(0)
    planted, clean = score[truth], score[~truth]
    drawn = [
        roc_auc_score(truth, np.concatenate([rng.choice(planted, len(planted)), rng.choice(clean, len(clean))]))
        for _ in range(resamples)
    ]
    ordered = np.concatenate([planted, clean])
    truth = np.sort(truth)[::-1]
    return float(roc_auc_score(truth, ordered)), *np.quantile(drawn, [0.025, 0.975]).tolist()


def report(table: pl.DataFrame) -> None:
    """Print what the docs quote."""
    for (method,), part in table.group_by("method", maintain_order=True):
        calibration = part.filter(pl.col("group").is_in(CALIBRATION_SEEDS))
        held_out = part.filter(pl.col("group").is_in(HELD_OUT_SEEDS))
        truth = held_out.sort("planted", descending=True)["planted"].to_numpy()
        print(f"\n{method}: {held_out.height} held-out classifiers, {int(truth.sum())} with a planted shortcut")
        print(
            f"{'score':<20} {'AUC':>5}  {'95 % interval':<13} {'found at 5 % false alarms set on the other seeds':>12}"
        )
        for label, expression in SCORES.items():
            held = held_out.sort("planted", descending=True).select(expression).to_series().to_numpy()
            area, low, high = auc_interval(truth, held)
            clean = calibration.filter(~pl.col("planted")).select(expression).to_series().to_numpy()
            cut = np.quantile(clean, 0.95)
            found, false = (held[truth] > cut).mean(), (held[~truth] > cut).mean()
            shown = f"{found:6.1%} found, {false:5.1%} false (cut {cut:.3f})"
            print(f"{label:<20} {area:5.3f}  {low:.3f}-{high:.3f}   {shown}")
        print("\nverdicts at the default thresholds, held-out seeds")
        words = [word for word in VERDICTS if word != "evidence"]
        print(f"{'cue':<10} {'strength':>8}  " + "  ".join(f"{word:>14}" for word in words))
        for cue in CUES:
            for strength in (0.0, *STRENGTHS):
                some = held_out.filter(pl.col("cue") == cue, pl.col("strength") == strength)["verdict"].to_list()
                print(f"{cue:<10} {strength:>8g}  " + "  ".join(f"{some.count(word):>14}" for word in words))


def report_thresholds(run: ea.Run) -> None:
    """Print what each threshold finds, for the seeds it is chosen on and the others."""
    print("\nshare confirmed / confirmed or suspected, by strength of what was planted (0: clean)")
    header = "  ".join(f"{strength:>11g}" for strength in (0.0, *STRENGTHS))
    print(f"{'threshold':<10} {'method':<18} {'seeds':<12} {header}")
    for threshold in THRESHOLDS:
        table = judged(run, threshold)
        for method in table["method"].unique(maintain_order=True):
            for seeds, chosen in (("calibration", CALIBRATION_SEEDS), ("held out", HELD_OUT_SEEDS)):
                cells = []
                for strength in (0.0, *STRENGTHS):
                    verdicts = table.filter(
                        pl.col("method") == method, pl.col("group").is_in(chosen), pl.col("strength") == strength
                    )["verdict"]
                    confirmed = (verdicts == "confirmed").mean()
                    flagged = verdicts.is_in(["confirmed", "suspected"]).mean()
                    cells.append(f"{confirmed:4.0%} / {flagged:4.0%}")
                print(f"{threshold:<10g} {method:<18} {seeds:<12} {'  '.join(cells)}")


def main() -> None:
    """Make the run if need be, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    torch.set_num_threads(1)
    run = evaluate_all(plans((*CALIBRATION_SEEDS, *HELD_OUT_SEEDS)), parser.parse_args().run)
    report(judged(run))
    report_thresholds(run)


if __name__ == "__main__":
    main()
