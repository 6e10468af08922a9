"""gpt2 score: how probable texts are."""

import typer

from gpt2cli.console import inputs, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar
from gpt2cli.errors import EXIT_ABOVE, UsageError

HELP = """Score texts: each line, each argument, or each file as a whole.

Columns: perplexity, tokens, log-probability (natural), bits per byte, line, text. In the last two a backslash, a
tab, a newline and other control characters are written as -e reads them."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 score -f story.txt --top 5               the five strangest lines
  gpt2 score --sort logprob --top 1 "I ate a pear." "I ate a spear."
  gpt2 score --whole -f a.txt -f b.txt          a perplexity for each file
  gpt2 score --tokens "The cat sat on the moon."
  git log -1 --format=%s | gpt2 score -q --fail-above 5000
"""


def score(
    context_: typer.Context,
    text: o.Texts = None,
    file: o.Files = None,
    whole: o.Whole = False,
    context: o.Context = None,
    start: o.Start = True,
    escapes: o.Escapes = False,
    special: o.SpecialText = False,
    stride: o.Stride = None,
    model: o.ModelName = None,
    precision: o.Precision = "auto",
    source: o.ModelSource = "auto",
    offline: o.Offline = False,
    device: o.Device = "auto",
    threads: o.Threads = 0,
    tokens: o.EachToken = False,
    alternatives: o.Alternatives = 3,
    sort: o.Sort = None,
    reverse: o.Reverse = False,
    top: o.Top = None,
    fail_above: o.FailAbove = None,
    as_json: o.Json = False,
    as_jsonl: o.TextLines = False,
    tsv: o.Tsv = False,
    stats: o.Totals = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    _refuse_contradictions(context_)
    note = terminal.silent if quiet else terminal.note
    # the context first: it may be what waits on stdin
    before = "" if context is None else inputs.read_context(context)
    texts = inputs.read_texts(text or [], file or [], whole=whole, escapes=escapes, note=note)

    # NumPy, ONNX Runtime, tokenizers: 200 ms that --help and usage errors do not pay
    from gpt2cli.analysis.scoring import Scorer
    from gpt2cli.console import scores
    from gpt2cli.model import load
    from gpt2cli.store.store import Listener

    with terminal.progress(quiet=quiet) as update:
        listener = Listener(update, note, terminal.note)
        opened = load(
            model,
            precision=precision,
            source=source,
            device=device,
            threads=threads,
            offline=offline,
            listener=listener,
        )
    tokenizer = opened.tokenizer
    if verbose:
        terminal.note(f"{opened.name}, {opened.precision} on {opened.device}, from {opened.folder}")
    ids = tokenizer.encode(before, special=special)
    scorer = Scorer(opened, context=ids, start=start, stride=stride, top=alternatives if tokens else None)
    if scorer.context < len(ids):
        note(f"of the context's {len(ids)} tokens the last {scorer.context} count")

    common = {
        "model": opened.name,
        "revision": opened.revision,
        "precision": opened.precision,
        "device": opened.device,
        "window": opened.engine.window,
        "stride": scorer.stride,
        "start": start and opened.start is not None,
        "context_tokens": scorer.context,
    }
    with terminal.Output() as output, Bar(quiet=quiet) as bar:
        reading = scores.Reading(
            scorer,
            tokenizer,
            bar,
            whole=whole,
            special=special,
            tokens=tokens,
            fail_above=fail_above,
            size=inputs.size_of(text or [], file or []),
        )
        rows = reading.rows(texts)
        if sort is not None or top is not None:
            rows = scores.arranged(rows, sort or "perplexity", reverse=reverse, top=top)
        form = "json" if as_json else "jsonl" if as_jsonl else "tsv" if tsv else scores.plain_form()
        several = len(file or []) > 1 or "-" in (text or [])
        reason = scores.write(bar.before(output.write), rows, reading, common, form=form, several=several)
    if reading.partial is not None:
        row = reading.partial
        note(f"interrupted: scored {scores.counted(row.score.tokens, 'token')} of {row.name}")
    if stats:
        terminal.say(reading.summary())
    if reason is not None:
        raise reason
    if reading.above:
        have = "has" if reading.above == 1 else "have"
        note(f"{reading.above} of {scores.counted(reading.count, 'text')} {have} a perplexity above {fail_above:g}")
        return EXIT_ABOVE
    return 0


def _refuse_contradictions(context: typer.Context) -> None:
    values = context.params
    formats = [flag for flag in ("json", "jsonl") if values[f"as_{flag}"]] + ["tsv"] * values["tsv"]
    if len(formats) > 1:
        raise UsageError(f"--{formats[0]} contradicts --{formats[1]}", "choose one of them")
    if values["quiet"] and values["verbose"]:
        raise UsageError("--quiet contradicts --verbose", "choose one of them")
    if values["sort"] is not None and values["sort"] not in o.SORT_KEYS:
        raise UsageError(f"--sort '{values['sort']}' is no column", f"choose {', '.join(o.SORT_KEYS)}")
    if values["reverse"] and values["sort"] is None and values["top"] is None:
        raise UsageError("--reverse without an order", "add --sort KEY or --top N")
    if o.given(context, "alternatives") and not values["tokens"]:
        raise UsageError("--alternatives has nowhere to go", "add --tokens")
    if values["fail_above"] is not None and not values["fail_above"] >= 0:
        raise UsageError(f"--fail-above {values['fail_above']} is no perplexity", "give a number such as 1000")
    if str(values["context"]) == "-":
        texts = values["text"] or [str(file) for file in values["file"] or ["-"]]
        if "-" in texts:
            raise UsageError("stdin cannot be both --context and text", "give one of them as a file: --context FILE")
    if values["whole"] and values["text"]:
        raise UsageError("--whole with texts as arguments", "leave it out: each argument is one text anyway")
