"""``ealign evaluate``: explain and score classifiers on a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from explanation_alignment.cli.options import ClassifierDevice, OptionalDataDir, Out, Quiet

if TYPE_CHECKING:
    from explanation_alignment.executors import Executor

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[
        list[str],
        typer.Option(
            help="Classifier, such as timm:resnet18 or file:my_model.py:build; a pattern, such as 'timm:convnext*'; a "
            "published list, such as paper:timm; or a text file (.txt) with one of these a line. Repeatable."
        ),
    ],
    dataset: Annotated[
        str, typer.Option(help="Dataset by name; arguments as in 'folder(size=scale)'. See `ealign datasets`.")
    ],
    out: Out,
    data_dir: OptionalDataDir = None,
    weights: Annotated[str, typer.Option(help="default, random, random:SEED, or a checkpoint.")] = "default",
    name: Annotated[str | None, typer.Option(help="Name of the (single) model in tables.")] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Side of the images the models take, in pixels; default their own.", min=1)
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Saliency method with arguments; repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Alignment metric; repeatable.")] = None,
    target: Annotated[
        str, typer.Option(help="Explained class: predicted, label, an index, or positives (every label).")
    ] = "predicted",
    output: Annotated[str, typer.Option(help="What is differentiated: logit or log_prob.")] = "logit",
    batch_size: Annotated[int, typer.Option(help="Images explained at once.")] = 32,
    chunk: Annotated[int, typer.Option(help="Inputs at once where a method makes many of an image.")] = 64,
    sample: Annotated[int | None, typer.Option(help="Only so many images, class-balanced and seeded.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the sample; part of every row's key.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that decode images.", min=0)] = 0,
    shard: Annotated[str | None, typer.Option(help="I/N: every N-th unit of work, from the I-th on.")] = None,
    max_errors: Annotated[float, typer.Option(help="Unreadable images allowed: a share below 1, or a count.")] = 0.1,
    intervene: Annotated[
        bool, typer.Option("--intervene", help="Exchange each region between images too; see `ealign reliance`.")
    ] = False,
    shuffle_annotations: Annotated[
        bool, typer.Option("--shuffle-annotations", help="The null: every image with another image's annotations.")
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(help="What networks run in: fp32, or bf16 (autocast); left out: a classifier's own, else fp32."),
    ] = None,
    cache: Annotated[
        str, typer.Option(help="Decoded images: auto (kept if there is more than one model), off, or a folder.")
    ] = "auto",
    cache_limit: Annotated[str, typer.Option(help="What all decoded images may take; more are not kept.")] = "20GB",
    save_maps: Annotated[
        bool, typer.Option("--save-maps", help="Keep every map too, for `ealign score`; the size is said before.")
    ] = False,
    maps_as: Annotated[str | None, typer.Option(help="Maps as float16 (default), uint8 or float32 (exact).")] = None,
    executor: Annotated[str, typer.Option(help="Who does it: local (this process), or ray (a cluster).")] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster: auto (this machine's), local (a new one), ray://HOST:PORT.")
    ] = None,
    gpus_per_task: Annotated[
        float | None, typer.Option(help="GPUs a Ray task has, or a share of one; default 1 where there are any.")
    ] = None,
    cpus_per_task: Annotated[
        int | None, typer.Option(help="CPUs a Ray task has, and threads it uses; default 1.")
    ] = None,
    device: ClassifierDevice = None,
    quiet: Quiet = False,
) -> None:
    """Explain and score the decisions of one or more classifiers.

    The same command again resumes; another model or dataset makes the run grow. Of several models one that fails is
    recorded with the reason, and the others go on; the exit code is 1 then. Many: --model "timm:convnext*"
    --model paper:timm --model models.txt; on many machines: --executor ray, or --shard.

    Example: ealign evaluate --model paper:mnist --weights random --dataset colored_mnist --out runs/first
    """
    from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric

    for one in metric or ():
        get_metric(one)  # before seconds are spent on what needs torch

    from explanation_alignment.classifiers.expansion import expand_models
    from explanation_alignment.cli.display.failures import print_failures
    from explanation_alignment.cli.display.results import print_run, print_unfinished
    from explanation_alignment.cli.display.tables import aside
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.datasets import load_dataset
    from explanation_alignment.datasets.shuffled import ShuffledAnnotations
    from explanation_alignment.errors import UsageError
    from explanation_alignment.evaluation import DEFAULT_METHODS
    from explanation_alignment.saliency.base import Output
    from explanation_alignment.sweeps import evaluate_models
    from explanation_alignment.sweeps.requests import failures_among

    models = expand_models(model, weights, say=aside)
    if name is not None and len(models) > 1:
        raise UsageError("--name goes with a single --model")
    outputs: dict[str, Output] = {"logit": "logit", "log_prob": "log_prob"}
    if output not in outputs:
        raise UsageError(f"--output: expected logit or log_prob, got {output!r}")
    if maps_as is not None and not save_maps:
        raise UsageError("--maps-as: goes with --save-maps")
    runner = _executor(executor, ray_address, gpus_per_task, cpus_per_task)
    keep_freed_memory()
    data = load_dataset(dataset, data_dir)
    if unmatched := getattr(data, "unmatched", ()):
        aside(
            f"{data.name}: annotation files that match no image: {len(unmatched):,}, such as {unmatched[0]}; "
            "`ealign datasets check` lists them"
        )
    if shuffle_annotations:
        data = ShuffledAnnotations(data)
    run = evaluate_models(
        models,
        data,
        method or DEFAULT_METHODS,
        out,
        name=name,
        device=device,
        input_size=input_size,
        precision=precision,
        target=target,
        output=outputs[output],
        metrics=metric or DEFAULT_METRICS,
        batch_size=batch_size,
        chunk=chunk,
        sample=sample,
        seed=seed,
        workers=workers,
        shard=shard,
        max_errors=max_errors,
        intervene=intervene,
        progress=not quiet,
        cache=cache,
        cache_limit=cache_limit,
        save_maps=(maps_as or "float16") if save_maps else None,
        executor=runner,
    )
    if any(item["status_counts"] for item in run.evaluations.values()):
        print_run(run)
    elif run.unfinished:
        print_unfinished(run)
    failures = failures_among(run, models, data.name, target)
    print_failures(failures)
    if failures:
        raise typer.Exit(1)


def _executor(name: str, address: str | None, gpus: float | None, cpus: int | None) -> Executor:
    """The executor asked for.

    Raises:
        UsageError: settings of Ray's without Ray.
        UnknownNameError: there is no such executor.
    """
    from explanation_alignment.errors import UsageError
    from explanation_alignment.executors import RayExecutor, executor_named

    given = {"--ray-address": address, "--gpus-per-task": gpus, "--cpus-per-task": cpus}
    if name == "ray":
        return RayExecutor(
            address="auto" if address is None else address,
            gpus_per_task=gpus,
            cpus_per_task=1 if cpus is None else cpus,
        )
    if named := [option for option, value in given.items() if value is not None]:
        raise UsageError(f"{', '.join(named)}: goes with --executor ray")
    return executor_named(name)
