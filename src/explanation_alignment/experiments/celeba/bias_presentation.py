"""What is said and shown of a run of the bias experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from explanation_alignment.experiments.celeba.bias_results import (
    bias_results,
    dose_response_results,
    is_compared,
    monotone_within_error,
    performance,
    verdict_counts,
    verdicts,
)
from explanation_alignment.experiments.celeba.protocol import (
    COMMON,
    GROUPS,
    METHODS,
    MODELS,
    RARE,
    UNTRAINED,
    correlation_of,
    group_word,
)
from explanation_alignment.reporting.figures import dose_response, example_grid, group_bars, reliance_bars
from explanation_alignment.reporting.html import Section, Table
from explanation_alignment.reporting.presentation import Illustration, Presentation, TerminalTable
from explanation_alignment.reporting.text import interval, number, signed
from explanation_alignment.statistics.relying.region_reliance import reliance
from explanation_alignment.statistics.relying.words import rule, sentences

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["present"]

_IOU: Final = "iou_coverage"
_METHOD_WORDS: Final = {"gradcam": "Grad-CAM", "vanilla_gradients": "vanilla gradients"}
_BEFORE: Final = "the network before training"
_QUANTITIES: Final = {
    "accuracy common": "common groups (black smiling, blond not smiling)",
    "accuracy rare": "rare groups (black not smiling, blond smiling)",
    "excess mouth": "mouth",
    "excess hair": "hair",
}
#: What the two labels are called under a face.
_CLASSES: Final = ("unsmiling", "smiling")
#: Examples of a group in the figure.
_EXAMPLES: Final = 3


def present(run: Run) -> Presentation:
    """The experiment's report: what was found and by which rule, the figures, the study's numbers beside ours."""
    scores, accuracy = bias_results(run), performance(run)
    found, doses = verdicts(run), dose_response_results(run)
    pair = [model for model in MODELS if model in accuracy["model"]]
    toy = bool(run.info["toy"])
    source = "generated faces" if toy else "CelebA"
    kinds = ["two models" if len(pair) == 2 else "one model"] if pair else []
    kinds += [f"{doses['correlation'].n_unique()} correlations of hair and smile"] if len(doses) else []
    said = [*_pair_sentences(scores, accuracy, pair), *_dose_sentences(doses)]
    return Presentation(
        title="Is a smile told by the mouth, or by the colour of the hair?",
        subtitle=f"{source}: {' and '.join(kinds)}, seeds {', '.join(map(str, _seeds(run)))}",
        sentences=[*said, *_reliance_sentences(run, found, pair), *_data_sentences(run)],
        illustrations=_illustrations(run, scores, accuracy, found, doses, pair),
        sections=_sections(run, scores, accuracy, found, doses),
        tables=_tables(run, scores, accuracy, doses, pair),
    )


def _seeds(run: Run) -> list[int]:
    return sorted({item["question"]["seed"] for item in run.evaluations.values()})


# ----------------------------------------------------------------------------------------------------- in words


def _pair_sentences(scores: pl.DataFrame, accuracy: pl.DataFrame, pair: Sequence[str]) -> list[str]:
    """Accuracy on common and rare groups, and where the maps lie."""
    said = []
    for model in pair:
        common, rare = (_mean_accuracy(accuracy, model, groups) for groups in (COMMON, RARE))
        said.append(
            f"The {model} model is right on {number(common)} of the faces of the groups that are common in the biased "
            f"training images and on {number(rare)} of the rare ones (unbiased test images)."
        )
    test = "hair" if "hair" in scores["test"] else "unbiased"
    for region in scores.filter(pl.col("test") == test)["region"].unique(maintain_order=True):
        part = scores.filter(
            pl.col("test") == test,
            pl.col("region") == region,
            pl.col("group") == "all",
            pl.col("method") == METHODS[0],
            pl.col("metric") == _IOU,
        )
        told = [f"{number(_of(part, model, 'ea'))} ({model})" for model in pair]
        if not told:
            continue
        before = _of(part, UNTRAINED, "ea")
        beside = [f"{number(_of(part, pair[0], 'chance'))} by chance"]
        beside += [f"{number(before)} before training"] if before is not None else []
        said.append(
            f"Grad-CAM maps have an IoU of {' and '.join(told)} with the {region}; {', '.join(beside)} "
            f"({_test_words(test)})."
        )
    return said


def _dose_sentences(doses: pl.DataFrame) -> list[str]:
    """From the weakest to the strongest correlation, and whether the way there goes one way."""
    if doses["correlation"].n_unique() < 2:
        return []
    ends = doses["correlation"].unique().sort().to_list()
    low, high = ends[0], ends[-1]
    said = []
    for quantity, words, falls in (
        ("accuracy rare", "accuracy on the rare groups", True),
        ("excess mouth", "the mouth's IoU above a centred map's", True),
        ("excess hair", "the hair's IoU above a centred map's", False),
    ):
        part = doses.filter(pl.col("quantity") == quantity)
        if part.is_empty():
            continue
        values = part["value"].to_list()
        good, steps = monotone_within_error(doses, quantity, falls=falls)
        show = number if quantity.startswith("accuracy") else signed
        said.append(
            f"From correlation {low:g} to {high:g} {words} goes from {show(values[0])} to {show(values[-1])}; "
            f"{good} of {steps} steps {'fall' if falls else 'rise'}, or stay within their error."
        )
    return said


def _reliance_sentences(run: Run, found: pl.DataFrame, pair: Sequence[str]) -> list[str]:
    """The verdicts of all seeds together for the two models, how many single seeds agree, and the rule."""
    told = []
    datasets = found["dataset"].unique().to_list()
    if pair:
        pooled = reliance(run, pool=["seed"]).filter(
            pl.col("method") == METHODS[0], pl.col("dataset").is_in(datasets), pl.col("model").is_in(list(pair))
        )
        ranks = {model: place for place, model in enumerate(pair)}
        told += sentences(pooled.sort(pl.col("model").replace_strict(ranks, default=None), "region"))
    counts = verdict_counts(run).filter(pl.col("method") == METHODS[0], pl.col("verdict") != "evidence")
    several = counts.filter(pl.col("of") > 1)
    if len(several):
        each = [
            f"{row['model']} {row['region']} {row['verdict']} in {row['seeds']} of {row['of']}"
            for row in several.iter_rows(named=True)
        ]
        told.append(f"Seed by seed: {'; '.join(each)}.")
    elif not pair and len(counts):
        each = [f"{row['model']} {row['region']} {row['verdict']}" for row in counts.iter_rows(named=True)]
        told.append(f"Verdicts: {'; '.join(each)}.")
    if not len(counts):
        told.append("No masks of the hair were given (--hq-dir), so nothing is said of the hair.")
    elif found["intervention"].is_not_null().any():
        told.append(
            "A region is exchanged with what lies at the same place of a face of the other label, whatever its hair: "
            "on test images of which half have each colour, about half of the exchanges bring the same colour."
        )
    return [*told, rule()]


def _data_sentences(run: Run) -> list[str]:
    """Who was trained on and who tested."""
    data = run.info["experiment"]["settings"]["data"]
    shared = data["persons_in_training_and_test"]
    if shared is None:
        persons = "Training and test images are of CelebA's own partitions; whether they share persons is not known"
    elif shared:
        persons = f"{shared:,} persons are in training and test images"
    else:
        persons = "No person of the training images is in a test set"
    pairing = {
        None: "",
        "hq": "; hair and mouth are masks on the pictures they were drawn on (CelebA-HQ's)",
        "crop": "; hair masks were carried back to the aligned pictures",
        "published": "; hair masks lie on the aligned pictures' centre as published, about 10 px off",
    }[data["hair_pairing"]]
    return [f"{persons}{pairing}."]


def _mean_accuracy(accuracy: pl.DataFrame, model: str, groups: Sequence[tuple[str, bool]]) -> float | None:
    """Accuracy on the unbiased test images of some groups, which are of equal size."""
    part = accuracy.filter(
        pl.col("model") == model, pl.col("test") == "unbiased", pl.col("group").is_in([group_word(g) for g in groups])
    )
    return None if part.is_empty() else float(part["accuracy"].sum() / len(part))


def _of(table: pl.DataFrame, model: str, column: str) -> float | None:
    part = table.filter(pl.col("model") == model)
    return None if part.is_empty() else part[column][0]


def _test_words(test: str) -> str:
    return "unbiased test images with masks of the hair" if test == "hair" else f"{test} test images"


# --------------------------------------------------------------------------------------------------- in a terminal


def _tables(
    run: Run, scores: pl.DataFrame, accuracy: pl.DataFrame, doses: pl.DataFrame, pair: Sequence[str]
) -> list[TerminalTable]:
    tables = []
    whisker = "± SD over seeds" if len(_seeds(run)) > 1 else "95 % interval"
    study = "; the study's number" if is_compared(run) else ""
    groups = ["all", *(group_word(group) for group in GROUPS)]
    short = [word.replace(" smiling", "\nsmiling").replace(" not\nsmiling", "\nnot smiling") for word in groups]
    if pair:
        rows = []
        shown = accuracy.filter(pl.col("model").is_in(list(pair)))
        for (model, test), part in shown.group_by("model", "test", maintain_order=True):
            by_group = {row["group"]: row for row in part.iter_rows(named=True)}
            cells = [_accuracy_cell(by_group.get(group)) for group in groups]
            rows.append([[str(model)], [str(test)], *cells, _loss_cell(by_group["all"])])
        headings = ["trained on", "tested on", "accuracy", *short[1:], "loss"]
        tables.append(TerminalTable("Accuracy and loss", headings, rows, f"a cell: mean; {whisker}{study}"))
        mouth = scores.filter(
            pl.col("method") == METHODS[0],
            pl.col("metric") == _IOU,
            pl.col("region") == "mouth",
            pl.col("model").is_in([*pair, UNTRAINED]),
        )
        rows = []
        for (model, test), part in mouth.group_by("model", "test", maintain_order=True):
            by_group = {row["group"]: row for row in part.iter_rows(named=True)}
            rows.append([[str(model)], [str(test)], *(_score_cell(by_group.get(group)) for group in groups)])
        note = f"a cell: mean; {whisker}; (a map that knows nothing){study}; {UNTRAINED}: {_BEFORE}"
        tables.append(TerminalTable("IoU with the mouth, Grad-CAM", ["trained on", "tested on", *short], rows, note))
        if "hair" in scores["test"]:
            tables.append(_hair_table(run, scores, [*pair, UNTRAINED], whisker))
    if len(doses):
        tables.append(_dose_table(doses, whisker))
    return tables


def _hair_table(run: Run, scores: pl.DataFrame, models: Sequence[str], whisker: str) -> TerminalTable:
    """Mouth beside hair, by method."""
    part = scores.filter(pl.col("test") == "hair", pl.col("group") == "all", pl.col("model").is_in(list(models)))
    found = verdicts(run)
    regions = part["region"].unique(maintain_order=True).to_list()
    rows = []
    for (method, model), own in part.group_by("method", "model", maintain_order=True):
        by_key = {(row["region"], row["metric"]): row for row in own.iter_rows(named=True)}
        cells = []
        for region in regions:
            cells += [_score_cell(by_key.get((region, _IOU))), _score_cell(by_key.get((region, "pointing_game")))]
            changed = found.filter(pl.col("model") == model, pl.col("method") == method, pl.col("region") == region)[
                "flip_difference"
            ]
            cells.append(["-"] if changed.null_count() == len(changed) else [f"{100 * float(changed.mean()):.0f} %"])  # type: ignore[arg-type]
        rows.append([[str(model)], [_METHOD_WORDS.get(str(method), str(method))], *cells])
    headings = ["trained on", "method"]
    for region in regions:
        headings += [f"{region}\nIoU", f"{region}\nhits", f"{region}\nchanged"]
    name = next(name for name in run.info["datasets"] if name.startswith("celeba-hair"))
    note = (
        f"a cell: mean; {whisker}; (a map that knows nothing); changed: predictions that exchanging the region "
        "changes, minus as many pixels elsewhere"
    )
    return TerminalTable(f"Mouth or hair ({name})", headings, rows, note)


def _dose_table(doses: pl.DataFrame, whisker: str) -> TerminalTable:
    quantities = [name for name in _QUANTITIES if name in doses["quantity"]]
    rows = []
    for (dose,), part in doses.group_by("correlation", maintain_order=True):
        by_name = {row["quantity"]: row for row in part.iter_rows(named=True)}
        rows.append([[f"{dose:g}"], *(_dose_cell(by_name[name], name) for name in quantities)])
    rows.sort(key=lambda row: float(row[0][0]))
    headings = ["correlation", *("accuracy" if name == "accuracy common" else name for name in quantities)]
    headings = [{"accuracy": "accuracy", "accuracy rare": "rare groups"}.get(name, name) for name in headings]
    note = (
        f"accuracy: on the common groups of the unbiased test images; excess: Grad-CAM's IoU minus a centred map's; "
        f"a cell: mean; {whisker}"
    )
    return TerminalTable("Against the correlation of hair and smile in training", headings, rows, note)


def _accuracy_cell(row: dict[str, Any] | None) -> list[str]:
    if row is None or row["accuracy"] is None:
        return ["-"]
    study = [] if row["reported"] is None else [f"study {number(row['reported'])}"]
    return [*_spread(row["accuracy"], row["sd_accuracy"], row["accuracy_low"], row["accuracy_high"]), *study]


def _loss_cell(row: dict[str, Any]) -> list[str]:
    return _spread(row["loss"], row["sd_loss"], row["loss_low"], row["loss_high"])


def _score_cell(row: dict[str, Any] | None) -> list[str]:
    if row is None or row["ea"] is None:
        return ["-"]
    chance = [] if row["chance"] is None else [f"({number(row['chance'])})"]
    study = [] if row["reported"] is None else [f"study {number(row['reported'])}"]
    return [*_spread(row["ea"], row["sd_seeds"], row["ci_low"], row["ci_high"]), *chance, *study]


def _dose_cell(row: dict[str, Any], quantity: str) -> list[str]:
    show = number if quantity.startswith("accuracy") else signed
    if row["value"] is None:
        return ["-"]
    if row["sd"] is not None:
        return [show(row["value"]), f"± {number(row['sd'])}"]
    return [show(row["value"]), f"{show(row['low'])} {show(row['high'])}"]


def _spread(value: float | None, sd: float | None, low: float | None, high: float | None) -> list[str]:
    if value is None:
        return ["-"]
    if sd is not None:
        return [number(value), f"± {number(sd)}"]
    return [number(value), interval(low, high)] if low is not None else [number(value)]


# ------------------------------------------------------------------------------------------------------ as figures


def _illustrations(
    run: Run,
    scores: pl.DataFrame,
    accuracy: pl.DataFrame,
    found: pl.DataFrame,
    doses: pl.DataFrame,
    pair: Sequence[str],
) -> list[Illustration]:
    toy = bool(run.info["toy"])
    figures = []
    several = len(_seeds(run)) > 1
    examples = _examples(run, pair)
    if not examples.is_empty():
        figures.append(
            Illustration(
                "examples",
                "What the maps show, group by group",
                example_grid(examples, class_names=_CLASSES, max_columns=_EXAMPLES, toy=toy),
                "Test faces of each group with outlines of the annotations and binarized Grad-CAM maps, a line a model "
                "and group",
            )
        )
    if pair:
        spread = "one standard deviation over seeds to either side" if several else "95 % interval over images"
        figures.append(
            Illustration(
                "groups",
                "Accuracy and alignment with the mouth, by group",
                group_bars(
                    _bars(scores, accuracy, pair),
                    models=pair,
                    labels={"biased": "trained on biased faces", "unbiased": "trained on unbiased faces"},
                    title="By group: accuracy, and IoU of Grad-CAM with the mouth",
                    note=f"Whisker: {spread}.",
                    before=_BEFORE,
                    toy=toy,
                ),
                "Bars of accuracy and of Grad-CAM's IoU with the mouth, by group and model, with chance levels",
            )
        )
    told = found.filter(pl.col("method") == METHODS[0])
    if len(told):
        figures.append(
            Illustration(
                "reliance",
                "What the models rely on",
                reliance_bars(told, title="Which region decides? Grad-CAM, and the exchange of regions", toy=toy),
                "Bars of each region's IoU above a centred map's and of the predictions its exchange changes, by model",
            )
        )
    if doses["correlation"].n_unique() > 1:
        panels = {
            "accuracy": ["accuracy common", "accuracy rare"],
            "IoU minus that of a map at the centre": [name for name in _QUANTITIES if name.startswith("excess")],
        }
        panels = {heading: [n for n in names if n in doses["quantity"]] for heading, names in panels.items()}
        fewest, most = (int(value) for value in doses.select(pl.min("seeds"), pl.max("seeds").alias("most")).row(0))
        spread = "one standard deviation over seeds" if most > 1 else "95 % interval over images"
        spread += " (95 % interval where there is one)" if fewest == 1 < most else ""
        figures.append(
            Illustration(
                "dose_response",
                "Against the correlation of hair and smile in training",
                dose_response(
                    doses,
                    panels,
                    dose="correlation of black hair and smile in training (phi)",
                    title="What a model learns, by how strongly hair and smile go together",
                    labels=_QUANTITIES,
                    note=f"Means of {_count(fewest, most)}; error bars: {spread}.",
                    before=_BEFORE,
                    toy=toy,
                ),
                "Curves of accuracy on common and rare groups and of the IoU of mouth and hair above a centred map's, "
                "against the correlation in training",
            )
        )
    return figures


def _count(fewest: int, most: int) -> str:
    number_of = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{number_of} seed{'s' if most > 1 else ''}"


def _examples(run: Run, pair: Sequence[str]) -> pl.DataFrame:
    """Decisions of the first seed, as many of each group and model as there are, the group in place of the dataset."""
    kept = run.examples()
    if kept.is_empty():
        return kept
    models = list(pair) or _ends(kept["model"].cast(pl.String).unique().to_list())
    words = pl.col("model", "dataset", "sample_id").cast(pl.String)
    kept = kept.with_columns(words).filter(
        pl.col("method").cast(pl.String) == METHODS[0], pl.col("model").is_in(models)
    )
    kept = kept.filter(pl.col("seed") == kept["seed"].min())
    wanted = len(models) * len(GROUPS)
    for prefix in ("celeba-hair", "celeba-unbiased", "celeba-biased", "celeba-"):
        part = kept.filter(pl.col("dataset").str.starts_with(prefix))
        if part.select("model", "attr_group").n_unique() == wanted:
            break
    shared = part.group_by("sample_id").agg(models=pl.col("model").n_unique().cast(pl.Int64))
    places = {group_word(group): place for place, group in enumerate(GROUPS)}
    return (
        part.join(shared, on="sample_id", maintain_order="left")
        .sort(
            pl.col("model").replace_strict({model: place for place, model in enumerate(models)}, default=None),
            pl.col("attr_group").replace_strict(places, default=None),
            -pl.col("models"),
            maintain_order=True,
        )
        .with_columns(dataset=pl.col("attr_group"))
    )


def _ends(models: Sequence[str]) -> list[str]:
    """The models of the weakest and the strongest correlation."""
    doses = sorted((dose, model) for model in models if (dose := correlation_of(model)) is not None)
    return [model for _, model in dict.fromkeys([doses[0], doses[-1]])] if doses else []


def _bars(scores: pl.DataFrame, accuracy: pl.DataFrame, pair: Sequence[str]) -> pl.DataFrame:
    """The rows of the group bars: whole and by group, on the biased and the unbiased test images."""
    kept = [pl.col("test").is_in(["unbiased", "biased"]), pl.col("model").is_in(list(pair))]
    rates = accuracy.filter(*kept).select(
        "test",
        "group",
        "model",
        measure=pl.lit("accuracy"),
        value="accuracy",
        low=_bound("accuracy", "sd_accuracy", "accuracy_low", -1),
        high=_bound("accuracy", "sd_accuracy", "accuracy_high", 1),
        chance=pl.lit(0.5),
        before=pl.lit(None, pl.Float64),
    )
    mouth = scores.filter(
        *kept, pl.col("method") == METHODS[0], pl.col("metric") == _IOU, pl.col("region") == "mouth"
    ).select(
        "test",
        "group",
        "model",
        measure=pl.lit("IoU with the mouth"),
        value="ea",
        low=_bound("ea", "sd_seeds", "ci_low", -1),
        high=_bound("ea", "sd_seeds", "ci_high", 1),
        chance="chance",
        before="untrained",
    )
    tests = pl.col("test").replace_strict({"unbiased": 0, "biased": 1}, default=None)
    return pl.concat([rates, mouth]).sort(tests, maintain_order=True).with_columns(pl.col("test") + " test images")


def _bound(value: str, sd: str, bound: str, side: int) -> pl.Expr:
    """An end of a whisker: a standard deviation over seeds away, or the interval's where there is one seed."""
    return pl.when(pl.col(sd).is_not_null()).then(pl.col(value) + side * pl.col(sd)).otherwise(pl.col(bound))


# ------------------------------------------------------------------------------------------------------- on a page


def _sections(
    run: Run, scores: pl.DataFrame, accuracy: pl.DataFrame, found: pl.DataFrame, doses: pl.DataFrame
) -> list[Section]:
    sections = [_accuracy_section(run, accuracy), _scores_section(run, scores), _verdict_section(found)]
    if len(doses):
        headings = [
            "Quantity",
            "Correlation",
            "Mean",
            "SD of seeds",
            "from",
            "to",
            "Chance",
            "Before training",
            "Seeds",
        ]
        columns = ["quantity", "correlation", "value", "sd", "low", "high", "chance", "untrained", "seeds"]
        table = Table(headings, doses.select(columns).rows())
        sections.append(Section("Against the correlation of hair and smile in training", tables=[table]))
    draws = run.info["experiment"]["settings"]["data"]["draws"]
    rows = [[name, *text.split(" faces ")] for name, text in draws.items()]
    note = "Which faces, by id: draws/ in the run's folder. Draws are nested: a larger one holds a smaller one."
    sections.append(Section("Which faces were drawn", tables=[Table(["Set", "Faces", "SHA-256"], rows)], note=note))
    return sections


def _accuracy_section(run: Run, accuracy: pl.DataFrame) -> Section:
    study = is_compared(run)
    headings = [
        "Trained on",
        "Tested on",
        "Group",
        "Accuracy",
        "SD of seeds",
        "from",
        "to",
        *(["Study"] if study else []),
    ]
    columns = ["model", "test", "group", "accuracy", "sd_accuracy", "accuracy_low", "accuracy_high"]
    columns += ["reported"] if study else []
    table = Table(
        [*headings, "Loss", "SD of seeds", "Decisions"], accuracy.select(*columns, "loss", "sd_loss", "n").rows()
    )
    return Section("Accuracy and loss", tables=[table], note=_study_note(run))


def _scores_section(run: Run, scores: pl.DataFrame) -> Section:
    study = is_compared(run)
    headings = ["Trained on", "Tested on", "Group", "Method", "Region", "IoU", "SD of seeds", "Chance"]
    headings += ["Before training", "Above centre", *(["Study"] if study else []), "Hits", "Scores", "Undefined"]
    rows = []
    for _, part in scores.group_by("method", "model", "test", "region", "group", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        row, hits = by_metric[_IOU], by_metric["pointing_game"]
        cells = [row[name] for name in ("model", "test", "group", "method", "region", "ea", "sd_seeds", "chance")]
        cells += [row["untrained"], row["excess"], *([row["reported"]] if study else [])]
        rows.append([*cells, hits["ea"], row["n"], row["n_undefined"]])
    return Section("IoU and pointing game", tables=[Table(headings, rows)], note=_study_note(run))


def _study_note(run: Run) -> str:
    if not is_compared(run):
        return "The study's numbers are not shown: they were measured on CelebA, these are generated faces."
    return (
        "The study's numbers are single runs of its notebook, on its biased test images; between two of its runs a "
        "group's IoU moved by a factor of 2.8."
    )


def _verdict_section(found: pl.DataFrame) -> Section:
    headings = ["Model", "Seed", "Method", "Region", "IoU minus null", "from", "to", "Changed", "Elsewhere"]
    columns = ["model", "seed", "method", "region", "excess", "excess_low", "excess_high", "flips", "elsewhere_flips"]
    rows = found.select(*columns, "flip_low", "flip_high", "verdict").rows()
    table = Table([*headings, "Difference from", "to", "Verdict"], rows)
    return Section("What the models rely on, seed by seed", [rule()], [table])
