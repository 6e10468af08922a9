"""Every shared option, declared once: its names, its environment variable, its help."""

from pathlib import Path
from typing import Annotated

import typer

from gpt2cli import catalog
from gpt2cli.export import PRECISIONS


def _models(incomplete: str) -> list[str]:
    return [name for name in catalog.names() if name.startswith(incomplete)]


def _precisions(incomplete: str) -> list[str]:
    return [name for name in ("auto", *PRECISIONS) if name.startswith(incomplete)]


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
    typer.Option("--source", metavar="S", help="auto, checkpoint, or onnx: prefer a ready-made ONNX export."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is on this machine; no network.")]
Precision = Annotated[
    str,
    typer.Option(metavar="P", envvar="GPT2_PRECISION", help="auto, fp32 or int8.", autocompletion=_precisions),
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
MinTokens = Annotated[int, typer.Option(metavar="N", min=0, help="Do not choose <|endoftext|> before N tokens.")]
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
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="Never choose <|endoftext|>.")]
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
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No notes and no progress on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say on stderr what is used, and from where.")]


def given(context: typer.Context, *names: str) -> list[str]:
    """Those of the parameters that stand on the command line (not in the environment)."""

    def stands(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    return [f"--{name.replace('_', '-')}" for name in names if stands(name)]
