"""The commands: their options and help. A body imports what it runs when it runs, so help starts at once.

What a command does is in `rnntool.commands`, how it ends in `rnntool.commands.exit_codes`.
"""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rnntool import __version__
from rnntool.commands import allocator
from rnntool.commands.cli_errors import Group
from rnntool.commands.common import Common
from rnntool.commands.exit_codes import Commands, leave
from rnntool.commands.options import fold_switches, setting_options, sharing
from rnntool.errors import UsageError
from rnntool.evaluation.adaptation import Adapting, Cache, Dynamic
from rnntool.tasks.specs import schema


def _examples(*lines: str) -> str:
    """The end of a help page: commands that can be pasted."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"[dim]$[/dim] {line}" for line in lines)


HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    cls=Commands, name="rnntool", no_args_is_help=True, rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=HELP,
    help="Small, fast, private text models from your own data: recurrent networks that write, tag and "
         "classify text.",
    epilog=_examples(
        "echo 'The keys on the table are mine.' | rnntool tag",
        "rnntool train tag train.conllu --dev dev.conllu -o my-tagger",
    ),
)
train = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode="rich", context_settings=HELP,
                    help="Train a model on your own data.")
app.add_typer(train, name="train")
inside = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode="rich", context_settings=HELP,
                     help="Look inside a network: gradients, states, vectors of words.")
app.add_typer(inside, name="inspect")

# --- Options that several commands have --------------------------------------------------------------------

Files = Annotated[list[str] | None, typer.Argument(
    metavar="[FILE]…", help="Files to read, `-` or none for standard input; .gz, .bz2, .xz too.",
    show_default=False)]
Output = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="FILE", help="Write here and not to standard output.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ADAPTING = "Language models that adapt to the text"
AsJsonl = Annotated[bool, typer.Option("--jsonl", help="One JSON object for each record.")]


def _model(default: str | None) -> Any:
    return typer.Option(
        "-m", "--model", metavar="MODEL", envvar="RNNTOOL_MODEL", show_envvar=False,
        help="Folder or name of a model; see rnntool models.", show_default=default or False)


Tagger = Annotated[str, _model("en-pos")]
Classifier = Annotated[str, _model("en-question")]
Writer = Annotated[str, _model("shakespeare")]
AnyModel = Annotated[str, _model(None)]


def _from(formats: str) -> Any:
    return typer.Option(
        "-f", "--from", metavar="FORMAT", help=f"Format of the input: {formats}. Guessed where left out.",
        show_default=False)


TextFrom = Annotated[str | None, _from("text, tsv, csv, jsonl, fasttext")]
SentenceFrom = Annotated[str | None, _from("text, tokens, conll, conllu, jsonl")]


def _format(to: str | None, as_jsonl: bool) -> str | None:
    """The format of the output that `--to` or `--jsonl` names."""
    if as_jsonl and to not in (None, "jsonl"):
        raise UsageError(f"--jsonl is short for --to jsonl; leave it or --to {to} out")
    return "jsonl" if as_jsonl else to


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rnntool {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                          help="Print the version.")] = False,
) -> None:
    pass


# --- Training ----------------------------------------------------------------------------------------------


def _train(
    task: str,
    call: typer.Context,
    files: Annotated[list[str] | None, typer.Argument(
        metavar="TRAIN…", help="Training files; not needed with --resume.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", metavar="DIR", help="Folder of the model.", show_default=False)] = None,
    dev: Annotated[list[str] | None, typer.Option(
        "--dev", metavar="FILE", help="Development data: picks the best weights.",
        show_default=False)] = None,
    from_: Annotated[str | None, _from("as the command that runs the model reads it")] = None,
    preset: Annotated[str | None, typer.Option(
        "--preset", metavar="NAME", help="A set of settings by name.", show_default=False)] = None,
    config_file: Annotated[Path | None, typer.Option(
        "--config", metavar="FILE.toml", help="Settings from a file.", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is there already.")] = False,
    *,
    common: Common,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    from rnntool.commands.train import run

    if output is None:
        raise UsageError("expected a folder for the model, found none; give -o DIR")
    typed = fold_switches(schema.SETTINGS[task], given, call)
    run(task, files or [], output, given, typed=typed, dev=dev or [], format=from_, preset=preset,
        config_file=config_file, resume=resume, force=force, as_json=as_json, common=common)


def _train_command(task: str, help: str, examples: str) -> None:
    """Add `train TASK` with an option for each of its settings."""

    def command(**options: Any) -> None:
        _train(task, **options)

    _, *shared, _ = inspect.signature(_train, eval_str=True).parameters.values()  # not `task` and `given`
    shared = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shared]
    command.__signature__ = inspect.Signature([*shared, *setting_options(schema.SETTINGS[task])])  # type: ignore[attr-defined]
    train.command(task, help=help, epilog=examples)(sharing()(command))


_train_command(
    "lm", "Train a language model on text: words, subwords, characters or bytes.",
    _examples("rnntool train lm poems.txt -o poet --tokenizer char --context stream",
              "rnntool train lm train.txt --dev valid.txt -o words --tokenizer word --max-time 10m",
              "rnntool train lm reviews.tsv -o reviewer --label-column label"),
)
_train_command(
    "classify", "Train a classifier on labelled texts: TSV or CSV with a header, JSONL, or fastText lines.",
    _examples("rnntool train classify train.tsv -o topics --text-column text --label-column label",
              "rnntool train classify reviews.jsonl -o reviews --pooling mean+max --class-weights balanced",
              "rnntool train classify few.tsv -o topics --raw questions.txt"),
)
_train_command(
    "tag", "Train a tagger on sentences with a tag for each word: CoNLL columns, CoNLL-U or JSONL.",
    _examples("rnntool train tag train.conllu --dev dev.conllu -o pos",
              "rnntool train tag ner.conll -o ner --head crf --column 4",
              "rnntool train tag few.conllu -o tagger --raw newspaper.txt"),
)


# --- Filters -----------------------------------------------------------------------------------------------


@app.command(epilog=_examples(
    "echo 'The keys on the table are mine.' | rnntool tag",
    "rnntool tag -m en-ner --to inline news.txt",
    "rnntool tag --from tokens --to conll --probs sentences.tok > tagged.conll",
))
@sharing()
def tag(
    files: Files = None,
    model: Tagger = "en-pos",
    output: Output = None,
    from_: SentenceFrom = None,
    to: Annotated[str | None, typer.Option(
        "-t", "--to", metavar="FORMAT", show_default=False,
        help="Format of the output: tokens (a line of tags), inline, conll, conllu, jsonl, html. "
             "What came in by default, conll for raw text.")] = None,
    column: Annotated[str | None, typer.Option(
        "--column", help="Column of CoNLL-U or key of JSONL to write; by default the one the model learned.",
        show_default=False)] = None,
    scheme: Annotated[Literal["iob1", "iob2", "iobes"] | None, typer.Option(
        "--scheme", help="Scheme of span tags. That of the file's own tags, else iob2.",
        show_default=False)] = None,
    probs: Annotated[bool, typer.Option("--probs", help="Add the probability of each tag.")] = False,
    nbest: Annotated[int, typer.Option("--nbest", min=0, help="Add the K best tag sequences (JSONL).")] = 0,
    threshold: Annotated[float, typer.Option(
        "--threshold", min=0, max=1,
        help="Leave out tags less probable than this: O for spans, _ otherwise.")] = 0.0,
    as_jsonl: AsJsonl = False,
    *,
    common: Common,
) -> None:
    """Tag each word of sentences: parts of speech, named entities."""
    from rnntool.commands.tag import run

    run(files or ["-"], model=model, output=output, format=from_, to=_format(to, as_jsonl),
        column=column, scheme=scheme, probs=probs, nbest=nbest, threshold=threshold, common=common)


@app.command(epilog=_examples(
    "echo 'Who wrote Hamlet ?' | rnntool classify --probs",
    "rnntool classify questions.jsonl --jsonl --top 3",
    "rnntool classify --explain --to html questions.txt > why.html",
))
@sharing()
def classify(
    files: Files = None,
    model: Classifier = "en-question",
    output: Output = None,
    from_: TextFrom = None,
    text_column: Annotated[str | None, typer.Option(
        "--text-column", metavar="COLUMN", help="Column or key of the text: a name, or a number from 1.",
        show_default=False)] = None,
    to: Annotated[Literal["text", "jsonl", "html"] | None, typer.Option(
        "-t", "--to", help="Format of the output; text by default.", show_default=False)] = None,
    probs: Annotated[bool, typer.Option("--probs", help="Add the probability.")] = False,
    top: Annotated[int | None, typer.Option(
        "--top", metavar="K", min=1, help="Give the K most probable labels.", show_default=False)] = None,
    threshold: Annotated[float | None, typer.Option(
        "--threshold", min=0, max=1, show_default=False,
        help="Labels less probable than this are not given; 0.5 where a text may have several and --top is "
             "left out.")] = None,
    none_label: Annotated[str, typer.Option("--none-label", help="Stands where no label is given.")] = "none",
    explain: Annotated[bool, typer.Option(
        "--explain", help="Add to each word how far the label's probability falls without it.")] = False,
    as_jsonl: AsJsonl = False,
    *,
    common: Common,
) -> None:
    """Label each text: one line in, one line out."""
    from rnntool.commands.classify import run

    run(files or ["-"], model=model, output=output, format=from_, to=_format(to, as_jsonl),
        text_column=text_column, probs=probs, top=top, threshold=threshold, none_label=none_label,
        explain=explain, common=common)


@app.command(epilog=_examples(
    "rnntool generate 'ROMEO:' --temperature 0.7 --seed 1",
    "rnntool generate -n 5 --max-tokens 100 --jsonl",
    "rnntool generate -n 20 --copied train.txt > texts.txt",
    "printf 'KING\\nQUEEN\\n' | rnntool generate --prompts -",
    "rnntool generate -m reviewer --label positive -n 5",
))
@sharing()
def generate(
    prompts: Annotated[list[str] | None, typer.Argument(
        metavar="[PROMPT]…", help="Texts to go on from; none starts from nothing.",
        show_default=False)] = None,
    model: Writer = "shakespeare",
    output: Output = None,
    prompt_file: Annotated[str | None, typer.Option(
        "--prompts", metavar="FILE", help="A prompt on each line of a file, `-` for standard input.",
        show_default=False)] = None,
    label: Annotated[str | None, typer.Option(
        "--label", metavar="LABEL", show_default=False,
        help="Write text of this label, with a model that learned text given labels.")] = None,
    n: Annotated[int, typer.Option("-n", "--samples", min=1, help="Samples for each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(
        "--temperature", help="Below 1 bolder, above wilder; 0 the likeliest.")] = 1.0,
    top_k: Annotated[int, typer.Option(
        "--top-k", help="Draw from the K likeliest tokens only; 0 from all.")] = 0,
    top_p: Annotated[float, typer.Option(
        "--top-p", help="Draw from the likeliest tokens that hold this share.")] = 1.0,
    min_p: Annotated[float, typer.Option(
        "--min-p", help="Draw from tokens at least this fraction as likely as the likeliest.")] = 0.0,
    typical: Annotated[float, typer.Option(
        "--typical", help="Draw from the tokens of most expected surprisal that hold this share.")] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(
        "--repetition-penalty", help="Above 1 makes tokens seen already less likely.")] = 1.0,
    no_repeat_ngram: Annotated[int, typer.Option(
        "--no-repeat-ngram", metavar="N", min=0,
        help="No run of N tokens comes twice in a text, prompt included; 0 allows all.")] = 0,
    beam: Annotated[int, typer.Option(
        "--beam", min=0, help="Search the likeliest texts with K hypotheses.")] = 0,
    min_tokens: Annotated[int, typer.Option("--min-tokens", help="No end before this many tokens.")] = 0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="The end after this many tokens.")] = 500,
    stop: Annotated[str | None, typer.Option("--stop", metavar="TEXT", show_default=False,
                                             help="End before this text; --beam cuts what it found.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Write each token as it comes.")] = False,
    batch_size: Annotated[int | None, typer.Option(
        "--batch-size", min=1, help="Samples drawn side by side.", show_default="64")] = None,
    copied: Annotated[str | None, typer.Option(
        "--copied", metavar="FILE", show_default=False,
        help="Say how much of the new text this text has word for word, such as that of training.")] = None,
    copied_words: Annotated[int | None, typer.Option(
        "--copied-words", metavar="N", min=1, help="Words in a row that count as copied.",
        show_default="8")] = None,
    allow_unknown: Annotated[bool, typer.Option(
        "--allow-unknown", help="Take what the model never saw in a prompt as unknown.")] = False,
    with_log_probs: Annotated[bool, typer.Option(
        "--logprobs", help="Add each token's log-probability (JSONL).")] = False,
    as_jsonl: AsJsonl = False,
    seed: Annotated[int | None, typer.Option(
        "--seed", min=0, envvar="RNNTOOL_SEED", show_envvar=False, help="Makes a run repeatable.",
        show_default="another one each time")] = None,
    *,
    common: Common,
) -> None:
    """Write text with a language model."""
    from rnntool.commands.generate import run
    from rnntool.inference.options import GenerateOptions

    options = GenerateOptions(
        label=label, n=n, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical=typical,
        repetition_penalty=repetition_penalty, no_repeat_ngram=no_repeat_ngram, beam=beam,
        min_tokens=min_tokens, max_tokens=max_tokens, stop=stop, batch_size=batch_size,
        allow_unknown=allow_unknown, seed=seed)
    run(prompts or [], options, model=model, output=output, prompt_file=prompt_file, copied=copied,
        copied_words=copied_words, stream=stream, as_jsonl=as_jsonl or with_log_probs,
        with_log_probs=with_log_probs, common=common)


@app.command(epilog=_examples(
    "echo 'To be, or not to be' | rnntool score",
    "rnntool score --per word essay.txt > surprisals.tsv",
    "rnntool score --pairs --json pairs.tsv",
    "rnntool score --pairs --prefix prefix --columns good,bad --by attractors agreement.tsv",
    "rnntool score -m reviewer --label-column label reviews.tsv",
))
@sharing()
def score(
    files: Files = None,
    model: Writer = "shakespeare",
    output: Output = None,
    from_: TextFrom = None,
    text_column: Annotated[str | None, typer.Option(
        "--text-column", metavar="COLUMN", help="Column or key of the text: a name, or a number from 1.",
        show_default=False)] = None,
    label_column: Annotated[str | None, typer.Option(
        "--label-column", metavar="COLUMN", show_default=False,
        help="Column or key of the label, of a model that learned text given labels; the one of training by "
             "default.")] = None,
    label: Annotated[str | None, typer.Option(
        "--label", metavar="LABEL", show_default=False,
        help="The label of all texts, in place of their own.")] = None,
    per: Annotated[Literal["token", "word"] | None, typer.Option(
        "--per", help="A row of surprisal in bits for each token or word, with offsets.",
        show_default=False)] = None,
    pairs: Annotated[bool, typer.Option(
        "--pairs",
        help="Read two sentences a line, the better one first; report how often the model agrees.")] = False,
    columns: Annotated[str | None, typer.Option(
        "--columns", metavar="GOOD,BAD", show_default=False,
        help="Columns or keys of the pairs; sentence_good,sentence_bad in JSONL.")] = None,
    prefix: Annotated[str | None, typer.Option(
        "--prefix", metavar="COLUMN", show_default=False,
        help="Column or key of what stands before both of a pair; only what follows is compared.")] = None,
    by: Annotated[str | None, typer.Option(
        "--by", metavar="COLUMN", show_default=False,
        help="Report pairs by the values of this column or key, or of several with commas between; "
             "field,linguistics_term,UID where JSONL has them.")] = None,
    context: Annotated[Literal["line", "stream"], typer.Option(
        "--context", help="Start each line anew, or carry the state on.")] = "line",
    as_jsonl: AsJsonl = False,
    as_json: AsJson = False,
    *,
    common: Common,
) -> None:
    """Score text with a language model. A line gives: log-probability in nats, perplexity, tokens."""
    from rnntool.commands.score import run

    run(files or ["-"], model=model, output=output, format=from_, text_column=text_column,
        label_column=label_column, label=label, per=per, pairs=pairs, columns=columns, prefix=prefix, by=by,
        stream=context == "stream", as_jsonl=as_jsonl, as_json=as_json, common=common)


# --- Reports and housekeeping -----------------------------------------------------------------------------


@app.command(epilog=_examples(
    "rnntool evaluate dev.conllu -m my-tagger",
    "rnntool evaluate dev.conllu -m my-tagger --json > report.json",
    "rnntool evaluate dev.tsv -m topics --errors 10",
    "rnntool evaluate dev.conllu -m my-tagger --compare my-older-tagger",
    "rnntool evaluate test.txt -m words --dynamic --cache",
))
@sharing()
def evaluate(
    files: Annotated[list[str], typer.Argument(
        metavar="FILE…", help="Files with the right answers in them.")],
    model: AnyModel,
    output: Output = None,
    from_: Annotated[str | None, _from("as in training")] = None,
    column: Annotated[str | None, typer.Option(
        "--column", help="Column of the gold tags; the one of training by default.",
        show_default=False)] = None,
    text_column: Annotated[str | None, typer.Option(
        "--text-column", metavar="COLUMN", help="Column or key of the text.", show_default=False)] = None,
    label_column: Annotated[str | None, typer.Option(
        "--label-column", metavar="COLUMN", help="Column or key of the label.", show_default=False)] = None,
    compare: Annotated[str | None, typer.Option(
        "--compare", metavar="MODEL",
        help="Another model to run on the same records: how far it differs, and whether chance could.",
        show_default=False)] = None,
    errors: Annotated[int, typer.Option("--errors", min=0, help="Show the K most confident mistakes.")] = 0,
    dynamic: Annotated[bool, typer.Option(
        "--dynamic", help="Of a language model that learns from the text as it reads it, too.",
        rich_help_panel=ADAPTING)] = False,
    dynamic_lr: Annotated[float | None, typer.Option(
        "--dynamic-lr", min=0, help="Learning rate.", rich_help_panel=ADAPTING,
        show_default=str(Dynamic.lr))] = None,
    dynamic_decay: Annotated[float | None, typer.Option(
        "--dynamic-decay", min=0, max=1, help="Share of the way back to the trained weights at each step.",
        rich_help_panel=ADAPTING, show_default=str(Dynamic.decay))] = None,
    cache: Annotated[bool, typer.Option(
        "--cache", help="Of a language model that expects words again which came lately, too.",
        rich_help_panel=ADAPTING)] = False,
    cache_theta: Annotated[float | None, typer.Option(
        "--cache-theta", min=0, help="How much likeness of contexts counts.", rich_help_panel=ADAPTING,
        show_default=str(Cache.theta))] = None,
    cache_lambda: Annotated[float | None, typer.Option(
        "--cache-lambda", min=0, max=0.999, help="Share of the cache in the probability.",
        rich_help_panel=ADAPTING, show_default=str(Cache.weight))] = None,
    cache_window: Annotated[int | None, typer.Option(
        "--cache-window", min=1, help="Tokens that the cache goes back.", rich_help_panel=ADAPTING,
        show_default=str(Cache.window))] = None,
    as_json: AsJson = False,
    *,
    common: Common,
) -> None:
    """Report how good a model is on data with the right answers."""
    from rnntool.commands.evaluate import run

    run(files, model=model, compare=compare, output=output, format=from_,
        columns={"column": column, "text_column": text_column, "label_column": label_column}, errors=errors,
        adapting=[
            *_adapting(Dynamic, wanted=dynamic, lr=dynamic_lr, decay=dynamic_decay),
            *_adapting(Cache, wanted=cache, theta=cache_theta, weight=cache_lambda, window=cache_window),
        ],
        as_json=as_json, common=common)


def _adapting(kind: type[Adapting], *, wanted: bool, **settings: Any) -> list[Adapting]:
    """A way of adapting with the settings that were given; none where it is not wanted, nor are they then."""
    given = {name: value for name, value in settings.items() if value is not None}
    if given and not wanted:
        switch = f"--{kind.name}"
        raise UsageError(f"{switch}: expected it beside its settings, found them alone; give {switch} too")
    return [kind(**given)] if wanted else []


@app.command(epilog=_examples("rnntool models", "rnntool models --json"))
def models(as_json: AsJson = False) -> None:
    """List the models that can be named."""
    from rnntool.commands.models import run_list

    run_list(as_json=as_json)


@app.command(epilog=_examples("rnntool info en-pos", "rnntool info en-pos --json"))
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder or name of a model.")],
    as_json: AsJson = False,
) -> None:
    """Describe a model: its task, network, settings and figures."""
    from rnntool.commands.models import run_info

    run_info(model, as_json=as_json)


@app.command(epilog=_examples("rnntool export my-tagger -o tagger.onnx --int8"))
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder or name of a model.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The ONNX file to write.")],
    int8: Annotated[bool, typer.Option(
        "--int8", help="Weights in 8 bits: a quarter of the size, faster.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
) -> None:
    """Write a model's network as an ONNX graph for other programs."""
    from rnntool.commands.models import run_export

    run_export(model, output, int8=int8, force=force)


@app.command(epilog=_examples(
    "echo \"I can't read Dr. Smith's e-mail.\" | rnntool tokenize",
    "echo 'To be' | rnntool tokenize -m shakespeare --ids | rnntool tokenize -m shakespeare --decode",
))
@sharing("encoding_errors")
def tokenize(
    files: Files = None,
    model: Annotated[str | None, _model(None)] = None,
    output: Output = None,
    ids: Annotated[bool, typer.Option("--ids", help="Give numbers, not pieces.")] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Numbers in, text out.")] = False,
    as_jsonl: AsJsonl = False,
    *,
    common: Common,
) -> None:
    """Split lines into tokens: words without a model, with one the tokens that it reads."""
    from rnntool.commands.tokenize import run

    run(files or ["-"], model=model, output=output, ids=ids, decode=decode, as_jsonl=as_jsonl, common=common)


@app.command(epilog=_examples("rnntool report my-tagger > my-tagger.html"))
def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or name of a model.")],
    output: Output = None,
) -> None:
    """Write a page about a training: learning curves, the report on the development data, settings."""
    from rnntool.commands.report import run

    run(folder, output=output)


# --- Looking inside ----------------------------------------------------------------------------------------

Picture = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="FILE", show_default=False,
    help="Draw a picture, too: a name that ends in .svg, .html or .png.")]
Layer = Annotated[int | None, typer.Option(
    "--layer", metavar="N", min=1, help="Layer to look at, from 1.", show_default="the last one")]
VectorsOf = Annotated[str | None, _model(None)]
VectorsFile = Annotated[str | None, typer.Option(
    "--vectors", metavar="FILE", show_default=False,
    help="Vectors in the text format of GloVe or word2vec, in place of a model's.")]
AsTraining = Annotated[str | None, _from("as in training")]


@inside.command("gradients", epilog=_examples(
    "rnntool inspect gradients -o gradients.svg",
    "rnntool inspect gradients --cells elman,lstm --hidden 50 --steps 100",
    "rnntool inspect gradients -m my-model --cells lstm text.txt",
))
@sharing("encoding_errors", "verbose")
def inspect_gradients(
    files: Files = None,
    model: Annotated[list[str] | None, typer.Option(
        "-m", "--model", metavar="MODEL", show_default=False,
        help="A trained model, which reads the files; may be given several times.")] = None,
    cells: Annotated[str | None, typer.Option(
        "--cells", metavar="CELL,…", show_default="elman,gru,lstm where there is no model",
        help=f"New networks of one layer, which read noise: {', '.join(schema.CELL_NAMES)}.")] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps to go back.")] = 50,
    hidden: Annotated[int | None, typer.Option(
        "--hidden", metavar="N", min=1, help="Units of new networks.", show_default="100")] = None,
    texts: Annotated[int, typer.Option("--texts", metavar="N", min=1, help="Texts to average over.")] = 10,
    seed: Annotated[int, typer.Option(
        "--seed", min=0, max=schema.MOST_SEED, envvar="RNNTOOL_SEED", show_envvar=False,
        help="Seed of new networks.")] = 1,
    output: Picture = None,
    from_: AsTraining = None,
    as_json: AsJson = False,
    *,
    common: Common,
) -> None:
    """Show what is left of a gradient k steps back."""
    from rnntool.commands.inspect import run_gradients

    run_gradients(files or [], model=model or [], cells=cells, steps=steps, hidden=hidden, texts=texts,
                  seed=seed, output=output, format=from_, as_json=as_json, common=common)


@inside.command("clusters", epilog=_examples(
    "rnntool inspect clusters -m words text.txt -o clusters.svg",
    "rnntool inspect clusters -m words --words dog,cat,run,sleep text.txt",
))
@sharing("encoding_errors", "threads", "verbose")
def inspect_clusters(
    model: AnyModel,
    files: Files = None,
    words: Annotated[str | None, typer.Option(
        "--words", metavar="WORD,…", help="Words to cluster.", show_default=False)] = None,
    top: Annotated[int | None, typer.Option(
        "--top", metavar="N", min=2, max=500, help="Cluster the N most frequent words.",
        show_default="30")] = None,
    layer: Layer = None,
    output: Picture = None,
    from_: AsTraining = None,
    as_json: AsJson = False,
    *,
    common: Common,
) -> None:
    """Cluster words by the states that a network has behind them, averaged over a text."""
    from rnntool.commands.inspect import run_clusters

    run_clusters(files or ["-"], model=model, words=words, top=top, layer=layer, output=output, format=from_,
                 as_json=as_json, common=common)


@inside.command("neighbors", epilog=_examples(
    "rnntool inspect neighbors Monday London -m en-pos",
    "rnntool inspect neighbors dog --vectors glove.txt --top 20 -o dog.svg",
))
def inspect_neighbors(
    words: Annotated[list[str], typer.Argument(metavar="WORD…", help="Words or other tokens.")],
    model: VectorsOf = None,
    vectors: VectorsFile = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Neighbors of each word.")] = 10,
    output: Picture = None,
    as_json: AsJson = False,
) -> None:
    """List the words whose vectors are nearest, by cosine."""
    from rnntool.commands.inspect import run_neighbors

    run_neighbors(words, model=model, vectors=vectors, top=top, output=output, as_json=as_json)


@inside.command("analogy", epilog=_examples(
    "rnntool inspect analogy man king woman --vectors glove.txt",
    "rnntool inspect analogy walk walked talk -m words -o walk.svg",
))
def inspect_analogy(
    a: Annotated[str, typer.Argument(metavar="A", help="A is to B")],
    b: Annotated[str, typer.Argument(metavar="B", help="as")],
    c: Annotated[str, typer.Argument(metavar="C", help="C is to what is looked for.")],
    model: VectorsOf = None,
    vectors: VectorsFile = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Answers.")] = 5,
    output: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Answer what is to C as B is to A: the words nearest to B - A + C."""
    from rnntool.commands.inspect import run_analogy

    run_analogy(a, b, c, model=model, vectors=vectors, top=top, output=output, as_json=as_json)


@inside.command("similarity", epilog=_examples(
    "rnntool inspect similarity wordsim353.tsv --vectors glove.txt",
    "rnntool inspect similarity SimLex-999.txt --columns word1,word2,SimLex999 -m words -o simlex.svg",
))
@sharing("encoding_errors")
def inspect_similarity(
    file: Annotated[str, typer.Argument(
        metavar="FILE", help="TSV or CSV: two words and how alike people find them; `-` is standard input.")],
    model: VectorsOf = None,
    vectors: VectorsFile = None,
    columns: Annotated[str | None, typer.Option(
        "--columns", metavar="WORD,WORD,SCORE", help="Columns by name or number.",
        show_default="1,2,3")] = None,
    output: Picture = None,
    as_json: AsJson = False,
    *,
    common: Common,
) -> None:
    """Compare cosines of words with human judgements, by Spearman's rank correlation."""
    from rnntool.commands.inspect import run_similarity

    run_similarity(file, model=model, vectors=vectors, columns=columns, output=output, as_json=as_json,
                   common=common)


@inside.command("states", epilog=_examples(
    "echo 'To be, or not to be' | rnntool inspect states -m shakespeare",
    "rnntool inspect states -m en-pos --units 3,17 --layer 1 text.txt -o states.html",
))
@sharing("encoding_errors", "threads", "quiet", "verbose")
def inspect_states(
    model: AnyModel,
    files: Files = None,
    units: Annotated[str | None, typer.Option(
        "--units", metavar="N,…", help="Units to show, from 0.", show_default=False)] = None,
    top: Annotated[int | None, typer.Option(
        "--top", metavar="K", min=1, help="Show the K units that vary most.", show_default="5")] = None,
    layer: Layer = None,
    output: Picture = None,
    from_: AsTraining = None,
    as_json: AsJson = False,
    *,
    common: Common,
) -> None:
    """Show what units do along a text: a table, and on a terminal or in a picture the text in colours."""
    from rnntool.commands.inspect import run_states

    run_states(files or ["-"], model=model, units=units, top=top, layer=layer, output=output, format=from_,
               as_json=as_json, common=common)


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, leave)
    gc.set_threshold(100_000)  # records make no cycles; to look for some in each window costs 3 % of the time
    sys.setswitchinterval(0.0005)  # a thread that ended a batch waits for the interpreter no longer than that
    allocator.keep_freed()
    if sys.stderr is None:  # a shell has closed it; a file that is opened later must not get its place
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        app()
    finally:
        gc.freeze()  # nor at the end, among all that was imported, which takes 25 ms
