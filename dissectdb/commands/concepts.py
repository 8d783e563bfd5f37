"""The commands of `dissectdb concepts`: list and check concept sets, or have a language model make one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissectdb.commands.options import Device, DryRun, Overrides, load_study
from dissectdb.output import save

if TYPE_CHECKING:
    from dissectdb.extract.concepts.making import Made
    from dissectdb.extract.concepts.overlaps import NearDuplicates

app = typer.Typer(no_args_is_help=True, help="Concept sets: list or check them, or have a model make one.")

Concepts = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A set that ships, wordfreq:NUMBER, or a .txt or .toml file")
]
Classes = Annotated[str, typer.Option(metavar="A,B,…", help="The classes, by name")]
About = Annotated[str, typer.Option(help="What the images show, for the prompt")]
ConceptFile = Annotated[Path, typer.Option("--output", "-o", help="The concept set (.toml)")]
Model = Annotated[str, typer.Option(help="A model, as the endpoint calls it; the key comes from $OPENAI_API_KEY")]
Endpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="An OpenAI-compatible one; else $OPENAI_BASE_URL, else OpenAI's")
]
Timeout = Annotated[float, typer.Option(min=0.01, help="Seconds to wait for an answer")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file")]
Threshold = Annotated[float, typer.Option(min=-1, max=1, help="Near-duplicates have a cosine above this")]
Pairs = Annotated[int, typer.Option(min=1, max=100_000, help="List at most so many near-duplicates, the closest")]


@app.command("list")
def list_concepts() -> None:
    """The concept sets that ship, and their categories; a study names one as a source."""
    from dissectdb.commands import tables
    from dissectdb.extract import concepts

    rows: list[tuple[str, int]] = []
    for name in concepts.shipped():
        concept_set = concepts.load(name)
        rows.append((name, len(concept_set.classes_of)))
        rows += [(f"{name}:{category}", count) for category, count in concept_set.categories.items()]
    tables.show([{"source": source, "concepts": count} for source, count in rows])


@app.command("check")
def check_concepts(
    source: Concepts,
    study_file: Annotated[Path, typer.Option("--study", help="A study, for its CLIP and prompts")],
    threshold: Threshold = 0.95,
    pairs: Pairs = 50,
    overrides: Overrides = None,
    device: Device = None,
) -> None:
    """Show concepts that CLIP hardly tells apart, and those that it puts nearer to a class they do not stand for.

    Example: dissectdb concepts check facial_expressions --study studies/demo.toml
    """
    from dissectdb.commands import tables
    from dissectdb.extract import concepts

    classes_of = concepts.read(source)
    study = load_study(study_file, overrides, device).with_network("concepts check")
    from dissectdb.extract.concepts import overlaps  # torch loads here

    result = overlaps.check(overlaps.load(study), classes_of, threshold, pairs)
    _show_near_duplicates(result.near_duplicates, len(classes_of), threshold)
    tables.show(result.nearer_elsewhere, title="Nearer to a class that they do not stand for", empty="none")


@app.command("generate")
def generate_concepts(
    classes: Classes,
    model: Model,
    number: Annotated[int, typer.Option(min=2, max=500, help="How many concepts to ask for")] = 25,
    about: About = "images",
    output: ConceptFile = Path("concepts.toml"),
    endpoint: Endpoint = None,
    study_file: Annotated[Path | None, typer.Option("--study", help="A study, for its CLIP")] = None,
    threshold: Threshold = 0.95,
    timeout: Timeout = 120.0,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Ask a language model for a concept set, show it and its near-duplicates, and write it as TOML.

    Example: dissectdb concepts generate --classes happy,sad --model gpt-4o --about "faces"
    """
    from dissectdb.commands import stages
    from dissectdb.extract.concepts import chat, making

    names = making.class_names(classes)
    making.check_output(output, force)
    if dry_run:
        print(making.generate_prompt(names, number, about))
        return
    target = chat.connect(model, endpoint, timeout)
    reader = None
    if study_file is not None:
        study = load_study(study_file, None).with_network("concepts generate")
        from dissectdb.extract.concepts import overlaps

        reader = overlaps.load(study)  # before the model is called, so that a mistake in the study costs no answer
    made = making.generate(target, names, number, about)
    _keep_concepts(made, output)
    if len(made.concepts) != number:
        stages.say(f"{model} named {len(made.concepts)} concepts; it was asked for {number}")
    if reader is None:
        stages.say("duplicates were looked for by their text only; --study names a CLIP that compares meanings")
    else:
        result = overlaps.check(reader, made.concepts, threshold)
        _show_near_duplicates(result.near_duplicates, len(made.concepts), threshold)


@app.command("label")
def label_concepts(
    source: Concepts,
    classes: Classes,
    model: Model,
    about: About = "images",
    output: ConceptFile = Path("concepts.toml"),
    endpoint: Endpoint = None,
    timeout: Timeout = 120.0,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Ask a language model which classes each concept of a list stands for, and write the answer as TOML.

    Example: dissectdb concepts label my_concepts.txt --classes happy,sad --model gpt-4o
    """
    from dissectdb.extract import concepts
    from dissectdb.extract.concepts import chat, making

    texts, names = list(concepts.read(source)), making.class_names(classes)
    making.check_output(output, force)
    if dry_run:
        print(making.label_prompt(texts, names, about))
        return
    _keep_concepts(making.label(chat.connect(model, endpoint, timeout), texts, names, about), output)


def _show_near_duplicates(found: NearDuplicates, concepts: int, threshold: float) -> None:
    """Print the closest pairs, and how many concepts have a near-duplicate."""
    from dissectdb.commands import tables

    tables.show(found.closest, title="Near-duplicates", empty=f"none above {threshold:g}")
    if found.pairs:
        listed = "" if len(found.closest) == found.pairs else f"; the closest {len(found.closest):,} are listed"
        pairs = "1 pair" if found.pairs == 1 else f"{found.pairs:,} pairs"
        print(f"{found.concepts:,} of {concepts:,} concepts are in {pairs} above {threshold:g}{listed}")


def _keep_concepts(made: Made, output: Path) -> None:
    """Print a concept set, then write it, so that the model's answer is not lost if the file cannot be written."""
    from dissectdb.commands import tables
    from dissectdb.extract.concepts import making

    rows = [{"concept": concept, "classes": ", ".join(class_names)} for concept, class_names in made.concepts.items()]
    tables.show(rows, title=f"{len(rows)} concepts")
    save(making.as_toml(made).encode(), output)
    print(f"concepts: {output.resolve()}")
