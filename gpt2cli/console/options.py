"""Every shared option, declared once: its names, its environment variable, its help."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperOption

SORT_KEYS = ("perplexity", "bits_per_byte", "logprob", "tokens")


def settings(context: typer.Context) -> dict[str, TyperOption]:
    """Every option with an environment variable, of any command, by its parameter's name; in the order of the help."""
    found: dict[str, TyperOption] = {}
    for command in getattr(context.find_root().command, "commands", {}).values():
        for option in command.params:
            if option.name and str(option.envvar).startswith("GPT2_"):
                found.setdefault(option.name, option)
    return found


Values = list[tuple[str, str]]  # what could be completed, and what to say of it


def _models(incomplete: str) -> Values:
    # all of these read small files, and none of them imports a library
    from gpt2cli.errors import UserError
    from gpt2cli.store import builds, catalog, hubcache

    known = {name: catalog.find(name) for name in catalog.names()}
    repositories = {entry.repository for entry in known.values()}
    cached: dict[str, str] = {}
    with contextlib.suppress(UserError):  # caches that cannot be; the next command says so
        cached |= {one.model: "exported" for one in builds.cached() if not one.stale}
        cached |= {one.name: "downloaded" for one in hubcache.downloaded()}
    others = {name: said for name, said in sorted(cached.items()) if name not in known and name not in repositories}
    said = {name: entry.description for name, entry in known.items()} | others
    return [(name, text) for name, text in said.items() if name.startswith(incomplete)]


def _devices(incomplete: str) -> Values:
    from gpt2cli.export.names import DEVICES

    return [(name, "the default" if name == "auto" else "") for name in DEVICES if name.startswith(incomplete)]


def _precisions(incomplete: str) -> Values:
    from gpt2cli.export.names import PRECISIONS

    said = {"auto": "the default"} | dict.fromkeys(PRECISIONS, "")
    return [(name, text) for name, text in said.items() if name.startswith(incomplete)]


def _sources(incomplete: str) -> Values:
    said = {"auto": "", "checkpoint": "export it", "onnx": "prefer a ready-made ONNX export"}
    return [(name, text) for name, text in said.items() if name.startswith(incomplete)]


def _keys(context: typer.Context, incomplete: str) -> Values:
    return [(name, option.help or "") for name, option in settings(context).items() if name.startswith(incomplete)]


def _values(context: typer.Context, incomplete: str) -> Values:
    """Of the setting that the word before names."""
    option = settings(context).get(str(context.params.get("key")).replace("-", "_"))
    if option is None:
        return []
    if option.is_flag:
        return [(word, "") for word in ("true", "false") if word.startswith(incomplete)]
    return [(one.value, one.help or "") for one in option.shell_complete(context, incomplete)]


def _shells(incomplete: str) -> list[str]:
    return [name for name in ("bash", "zsh", "fish", "powershell") if name.startswith(incomplete)]


Prompt = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PROMPT]...", help="Text to continue; - is stdin's text. Default: stdin.", show_default=False
    ),
]
File = Annotated[
    Path | None,
    typer.Option("-f", "--file", metavar="FILE", help="Read the prompt from FILE.", show_default=False),
]
Ids = Annotated[
    str | None,
    typer.Option("--ids", metavar='"ID ID ..."', help="The prompt as token ids.", show_default=False),
]
Escapes = Annotated[bool, typer.Option("-e", "--escapes", help="Read \\n, \\t, \\xHH ... in arguments and --stop.")]
Special = Annotated[bool, typer.Option("--special", help="<|endoftext|> in the prompt is the token, not text.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a prompt longer than the model's window.")]

Text = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TEXT]...", help="Joined by spaces; - is stdin's text. Default: stdin.", show_default=False
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TEXT]...", help="A text each; - is stdin's lines. Default: stdin.", show_default=False),
]
Files = Annotated[
    list[Path] | None,
    typer.Option(*("-f", "--file"), metavar="FILE", help="Read FILE; may be repeated.", show_default=False),
]
SpecialText = Annotated[bool, typer.Option("--special", help="<|endoftext|> in a text is the token, not text.")]

Decode = Annotated[bool, typer.Option("--decode", "-d", help="The other way: token ids to text.")]
OnlyIds = Annotated[bool, typer.Option("--ids", help="Print the ids alone, on one line.")]
Count = Annotated[bool, typer.Option("--count", "-c", help="Print how many tokens there are.")]
CutTo = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=0, help="Cut the text to N tokens, and print it.", show_default=False),
]
TokenLines = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a token, each on a line.")]

Whole = Annotated[bool, typer.Option("--whole", help="Score each file, or stdin, as one text, not by lines.")]
Context = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Text that precedes each and is not scored.", show_default=False),
]
Start = Annotated[
    bool,
    typer.Option("--start/--no-start", help="Score the first token, given the start token where the model has one."),
]
Stride = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Tokens by which the window moves on in a longer text. Default: half of it.",
        show_default=False,
    ),
]
EachToken = Annotated[bool, typer.Option("--tokens", help="Each token: log-probability, rank, and what was likelier.")]
Alternatives = Annotated[int, typer.Option(metavar="K", min=0, help="With --tokens: the K most probable tokens.")]
Sort = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Highest first, by perplexity, bits_per_byte, logprob or tokens.",
        autocompletion=lambda incomplete: [key for key in SORT_KEYS if key.startswith(incomplete)],
        show_default=False,
    ),
]
Reverse = Annotated[bool, typer.Option("--reverse", help="With --sort or --top: lowest first.")]
Top = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Only the first N, by perplexity unless --sort.", show_default=False),
]
FailAbove = Annotated[
    float | None,
    typer.Option(metavar="X", help="Exit with code 8 where a perplexity is above X.", show_default=False),
]
Tsv = Annotated[bool, typer.Option("--tsv", help="Tab-separated and without header, on a terminal too.")]
TextLines = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a text, each on a line.")]
Totals = Annotated[bool, typer.Option("--stats", help="Print totals and speed to stderr.")]

ModelName = Annotated[
    str | None,
    typer.Option(
        *("-m", "--model"),
        metavar="NAME|FOLDER",
        envvar="GPT2_MODEL",
        help="A name of `gpt2 list`, owner/name[@revision] on the hub, or a folder. Default: gpt2.",
        autocompletion=_models,
        show_default=False,
    ),
]
ModelSource = Annotated[
    str,
    typer.Option(
        "--source",
        metavar="S",
        help="auto, checkpoint, or onnx: prefer a ready-made ONNX export.",
        autocompletion=_sources,
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is on this machine; no network.")]
Precision = Annotated[
    str,
    typer.Option(
        metavar="P", envvar="GPT2_PRECISION", help="auto, fp32, int8, int4; fp16.", autocompletion=_precisions
    ),
]
Device = Annotated[
    str,
    typer.Option(metavar="D", envvar="GPT2_DEVICE", help="auto, cpu or cuda.", autocompletion=_devices),
]
Threads = Annotated[
    int, typer.Option(metavar="N", envvar="GPT2_THREADS", min=0, max=1024, help="CPU threads; 0: as many as cores.")
]

MaxTokens = Annotated[
    int,
    typer.Option(
        *("-n", "--max-tokens", "--n-predict", "--predict", "--max-new-tokens", "--length"),
        metavar="N",
        envvar="GPT2_MAX_TOKENS",
        min=-1,
        help="Tokens to generate; -1: until interrupted.",
    ),
]
MinTokens = Annotated[int, typer.Option(metavar="N", min=0, help="Do not end the text before N tokens.")]
MaxLength = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Tokens of prompt and text together.", show_default=False),
]
Samples = Annotated[
    int,
    typer.Option(
        *("-N", "--num-samples", "--nsamples", "--num-return-sequences", "--branches"),
        metavar="N",
        min=1,
        help="Texts to generate, as one batch.",
    ),
]
Beams = Annotated[int, typer.Option(metavar="N", min=1, help="Beam search with N beams; the text comes at the end.")]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        *("--stop", "-r", "--reverse-prompt", "--truncate"),
        metavar="TEXT",
        help="End before TEXT; may be repeated.",
        show_default=False,
    ),
]
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="Never choose an end token.")]
Keep = Annotated[
    int,
    typer.Option(
        metavar="N",
        envvar="GPT2_KEEP",
        min=-1,
        help="First tokens kept when the window is full; -1: the prompt.",
    ),
]

Temperature = Annotated[
    float,
    typer.Option("-t", "--temperature", "--temp", metavar="X", envvar="GPT2_TEMPERATURE", help="0 is greedy."),
]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always the most probable token.")]
TopK = Annotated[int, typer.Option(metavar="K", envvar="GPT2_TOP_K", help="Draw from the K best; 0: off.")]
TopP = Annotated[
    float,
    typer.Option(metavar="P", envvar="GPT2_TOP_P", help="Draw from the best that reach mass P; 1: off."),
]
MinP = Annotated[float, typer.Option(metavar="P", envvar="GPT2_MIN_P", help="Drop below P times the best; 0: off.")]
Typical = Annotated[
    float,
    typer.Option("--typical", "--typical-p", metavar="P", envvar="GPT2_TYPICAL", help="Typical sampling; 1: off."),
]
RepeatPenalty = Annotated[
    float,
    typer.Option(
        *("--repeat-penalty", "--repetition-penalty"),
        metavar="X",
        envvar="GPT2_REPEAT_PENALTY",
        help="Make repetition less likely; 1: off.",
    ),
]
RepeatLastN = Annotated[int, typer.Option(metavar="N", help="Tokens the repeat penalty looks back; -1: all.")]
PresencePenalty = Annotated[float, typer.Option(metavar="X", help="Subtracted from tokens that have been generated.")]
FrequencyPenalty = Annotated[float, typer.Option(metavar="X", help="The same, for each time they were.")]
NoRepeatNgram = Annotated[
    int,
    typer.Option(
        *("--no-repeat-ngram", "--no-repeat-ngram-size"),
        metavar="N",
        help="Never repeat N tokens in a row; 0: off.",
    ),
]
LogitBias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TOKEN=X",
        help="Add X to the logit of TOKEN, an id or a text; -inf bans it. May be repeated.",
        show_default=False,
    ),
]
Lookup = Annotated[
    bool | None,
    typer.Option(
        "--lookup/--no-lookup",
        help="Greedy: guess ahead from what the text has said before. Default: on at fp32.",
        show_default=False,
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER",
        help="A smaller model with the same tokenizer that guesses ahead.",
        autocompletion=_models,
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "-s",
        "--seed",
        metavar="N",
        envvar="GPT2_SEED",
        help="Same seed, same text. Default: drawn.",
        show_default=False,
    ),
]

Name = Annotated[str, typer.Argument(help="A model: a name, owner/name, or a folder.", autocompletion=_models)]
Names = Annotated[list[str], typer.Argument(help="Models: names, owner/name, or folders.", autocompletion=_models)]
OptionalNames = Annotated[
    list[str] | None,
    typer.Argument(help="Models. Default: all.", autocompletion=_models, show_default=False),
]
Folder = Annotated[Path, typer.Argument(help="A folder that is not there yet.")]
Words = Annotated[list[str] | None, typer.Argument(help="Only models with these words.", show_default=False)]
Remote = Annotated[bool, typer.Option("--remote", help="Search the hub for GPT-2 models.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="With --remote: at most N models.")]
Downloads = Annotated[bool, typer.Option("--downloads", help="Remove the downloaded files too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")]

_LIST = "; several with commas."
BenchPrompts = Annotated[
    str, typer.Option("-p", "--n-prompt", metavar="N", help=f"Tokens of a prompt (pp){_LIST} 0: none.")
]
BenchGenerated = Annotated[
    str, typer.Option("-n", "--n-gen", metavar="N", help=f"Tokens generated (tg){_LIST} 0: none.")
]
BenchDepths = Annotated[str, typer.Option("-d", "--depth", metavar="N", help=f"Tokens in the cache before{_LIST}")]
BenchBatches = Annotated[str, typer.Option("-b", "--batch", metavar="N", help=f"Rows generated at once{_LIST}")]
Repetitions = Annotated[int, typer.Option("-r", "--repetitions", metavar="N", min=1, max=1000, help="Of each test.")]
FirstToken = Annotated[
    bool, typer.Option("--first-token/--no-first-token", help="Time to the first token too, cold and warm.")
]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A setting of `gpt2 config`.", autocompletion=_keys)]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="Its value.", autocompletion=_values)]
Shell = Annotated[
    str | None,
    typer.Argument(
        metavar="[SHELL]",
        help="bash, zsh, fish or powershell. Default: the one this runs in.",
        autocompletion=_shells,
        show_default=False,
    ),
]
Install = Annotated[bool, typer.Option("--install", help="Put it where the shell looks, and say what was done.")]

Echo = Annotated[
    bool | None,
    typer.Option(
        *("--echo/--no-echo", "--display-prompt/--no-display-prompt"),
        help="Print the prompt before the text. Default: on a terminal.",
        show_default=False,
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output-file", metavar="FILE", help="Write to FILE instead of stdout.", show_default=False),
]
NoWrap = Annotated[bool, typer.Option("--no-wrap", help="Let the terminal break long lines, also inside words.")]
Null = Annotated[bool, typer.Option("-0", "--null", help="End each text with a NUL byte.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonLines = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a sample, each on a line.")]
NoHistory = Annotated[
    bool,
    typer.Option("--no-history", envvar="GPT2_NO_HISTORY", help="Remember nothing of what is typed."),
]
Load = Annotated[
    Path | None,
    typer.Option("--load", metavar="FILE", help="Go on with a document that /save wrote.", show_default=False),
]
Logprobs = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        min=0,
        help="With JSON: each token's log-probability, and the K best.",
        show_default=False,
    ),
]
Stats = Annotated[bool, typer.Option("--stats", help="Print seed, counts and speed to stderr.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress and no notes on stderr, but which model answers by default.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say on stderr what is used, and from where.")]


def given(context: typer.Context, *names: str) -> list[str]:
    """Those of the parameters that stand on the command line (not in the environment)."""

    def stands(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    return [f"--{name.replace('_', '-')}" for name in names if stands(name)]
