"""gpt2 generate: continue a text."""

import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import typer

from gpt2cli.console import inputs, terminal
from gpt2cli.console import options as o
from gpt2cli.errors import CannotMeet, CorruptFile, Terminated, UsageError, UserError

if TYPE_CHECKING:
    from gpt2cli.generation.parameters import Sampling
    from gpt2cli.model import Model

HELP = "Continue a text, streaming."
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 generate "Once upon a time"
  gpt2 generate -n 60 --stop "." -N 3 "The old man said"
  cat story.txt | gpt2 generate - "And then" > more.txt
  gpt2 generate --greedy --json "The cat" | jq -r '.samples[0].text'
"""


def generate(
    context: typer.Context,
    prompt: o.Prompt = None,
    file: o.File = None,
    ids: o.Ids = None,
    escapes: o.Escapes = False,
    special: o.Special = False,
    strict: o.Strict = False,
    model: o.ModelName = None,
    precision: o.Precision = "auto",
    source: o.ModelSource = "auto",
    offline: o.Offline = False,
    device: o.Device = "auto",
    threads: o.Threads = 0,
    max_tokens: o.MaxTokens = 128,
    min_tokens: o.MinTokens = 0,
    max_length: o.MaxLength = None,
    num_samples: o.Samples = 1,
    beams: o.Beams = 1,
    stop: o.Stop = None,
    ignore_eos: o.IgnoreEos = False,
    keep: o.Keep = 0,
    temperature: o.Temperature = 0.8,
    greedy: o.Greedy = False,
    top_k: o.TopK = 40,
    top_p: o.TopP = 0.95,
    min_p: o.MinP = 0.0,
    typical: o.Typical = 1.0,
    repeat_penalty: o.RepeatPenalty = 1.0,
    repeat_last_n: o.RepeatLastN = 64,
    presence_penalty: o.PresencePenalty = 0.0,
    frequency_penalty: o.FrequencyPenalty = 0.0,
    no_repeat_ngram: o.NoRepeatNgram = 0,
    logit_bias: o.LogitBias = None,
    seed: o.Seed = None,
    lookup: o.Lookup = None,
    draft_model: o.DraftModel = None,
    echo: o.Echo = None,
    output_file: o.OutputFile = None,
    no_wrap: o.NoWrap = False,
    null: o.Null = False,
    as_json: o.Json = False,
    as_jsonl: o.JsonLines = False,
    logprobs: o.Logprobs = None,
    stats: o.Stats = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    _refuse_contradictions(context)
    note = terminal.silent if quiet else terminal.note
    text, prompt_ids = None, list[int]()
    if ids is None:
        text = inputs.read_prompt(prompt or [], file, escapes=escapes, note=note)
    else:
        prompt_ids = inputs.token_ids(ids)
        inputs.note_unused(note)
    stops = [inputs.argument_text(one, escapes=escapes) for one in stop or []]
    # where only --max-length is given, nothing else ends the text
    endless = max_tokens == -1 or (max_length is not None and not o.given(context, "max_tokens"))

    started = time.monotonic()
    # NumPy, ONNX Runtime, tokenizers: 200 ms that --help and usage errors do not pay
    from gpt2cli.console.record import Record
    from gpt2cli.generation import speculation, texts
    from gpt2cli.generation.parameters import Limits, Sampling
    from gpt2cli.model import load
    from gpt2cli.store.store import Listener

    sampling = Sampling(
        temperature=0.0 if greedy else temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical=typical,
        repeat_penalty=repeat_penalty,
        repeat_last_n=repeat_last_n,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        no_repeat_ngram=no_repeat_ngram,
        seed=None if seed == -1 else seed,
    ).seeded()
    limits = Limits(
        max_tokens=None if endless else max_tokens,
        min_tokens=min_tokens,
        max_length=max_length,
        stop=stops,
        ignore_eos=ignore_eos,
        keep=keep,
    )
    settings = asdict(limits) | {"beams": beams, "draft_model": draft_model}
    structured = as_json or as_jsonl
    if str(output_file) == "-":
        output_file = None
    with terminal.Output(output_file) as output:
        with terminal.progress(quiet=quiet) as update:
            opening = partial(
                load,
                precision=precision,
                source=source,
                device=device,
                threads=threads,
                alternating=draft_model is not None,
                text=text is not None,
                offline=offline,
                listener=Listener(update, note, terminal.note),
            )
            opened = opening(model)
            small = opening(draft_model) if draft_model is not None else None
        drafter: speculation.Drafter | None = None
        if small:
            drafter = speculation.DraftModel(small, opened)
        elif lookup or (lookup is None and _lookup_pays(opened, sampling, num_samples, beams)):
            drafter = speculation.Lookup()
        settings["lookup"] = isinstance(drafter, speculation.Lookup)
        if verbose:
            terminal.note(f"{opened.name}, {opened.precision} on {opened.device}, from {opened.folder}")
            if opened.why_cpu and device == "auto":
                terminal.note(f"on the CPU: {opened.why_cpu}")
        if logit_bias:
            sampling = replace(sampling, logit_bias=inputs.logit_bias(logit_bias, opened.tokenizer, escapes=escapes))
        whole = prompt_ids if text is None else text
        fed = texts.fit(opened, whole, special=special, keep=keep, strict=strict)
        if fed.cut:
            lost = "its beginning" if keep <= 0 else f"what follows its first {keep} tokens"
            note(f"the prompt is longer than the model's window of {len(fed.ids)} tokens: {lost} was cut off")
        prompt_text = opened.tokenizer.decode(fed.ids) if text is None else text
        record = Record(
            opened,
            prompt_text,
            fed.ids,
            sampling=sampling,
            settings=settings,
            samples=num_samples,
            logprobs=logprobs is not None,
            keep=structured,
            started=started,
            drafter=drafter,
        )
        pieces = record.watch(
            texts.generate(
                opened,
                fed.ids,
                sampling,
                limits,
                samples=num_samples,
                beams=beams,
                logprobs=logprobs,
                drafter=drafter,
            )
        )
        if echo is None:
            echo = terminal.is_stdout(output_file) and terminal.stdout_is_terminal()
        printed = None
        if not structured:
            printed = terminal.Texts(
                output, num_samples, prompt=prompt_text if echo else "", null=null, wrap=not no_wrap
            )
        cut_short: BaseException | None = None
        try:
            for piece in pieces:
                if printed:
                    printed.push(piece.row, piece.text, done=piece.finish is not None)
        except (KeyboardInterrupt, Terminated, CannotMeet, CorruptFile) as reason:
            cut_short = reason
        # what there is belongs to the user, however it came to an end
        if printed:
            for row, held in enumerate(record.held):
                if held:
                    printed.push(row, held, done=True)
            printed.finish()
        elif record.tokens or not isinstance(cut_short, UserError):
            output.write(record.json_object() if as_json else record.json_lines())
        if record.tokens or cut_short is None:
            output.keep()
            if stats:
                terminal.say(record.summary())
        if cut_short is not None:
            raise cut_short
    return 0


def _lookup_pays(model: "Model", sampling: "Sampling", samples: int, beams: int) -> bool:
    """Where lookup is on by itself: where the text is the same token for token. With int8 activations a last bit of
    attention, which differs between one token and several at a time, is now and then rounded to another text."""
    return sampling.greedy and samples == beams == 1 and model.precision == "fp32"


def _refuse_contradictions(context: typer.Context) -> None:
    values = context.params

    def refuse(first: str, second: str, hint: str) -> None:
        raise UsageError(f"{first} contradicts {second}", hint)

    as_json = "--json" if values["as_json"] else "--jsonl" if values["as_jsonl"] else ""
    if values["as_json"] and values["as_jsonl"]:
        refuse("--json", "--jsonl", "choose one of them")
    if values["quiet"] and values["verbose"]:
        refuse("--quiet", "--verbose", "choose one of them")
    if values["greedy"] and o.given(context, "temperature") and values["temperature"] != 0:
        refuse("--greedy", f"--temperature {values['temperature']}", "greedy is temperature 0: leave one out")
    if values["null"] and as_json:
        refuse("--null", as_json, "JSON needs no separators: leave out -0")
    if values["logprobs"] is not None and not as_json:
        raise UsageError("--logprobs has nowhere to go in plain text", "add --json or --jsonl")
    if values["ids"] is not None and (values["prompt"] or values["file"]):
        raise UsageError("a prompt as ids and as text", "give --ids or a text, not both")
    if values["max_tokens"] == -1 and values["max_length"] is None:
        for present, what in (
            (as_json, as_json),
            (values["num_samples"] > 1, "-N"),
            (values["beams"] > 1, "--beams"),
        ):
            if present:
                refuse("-n -1", what, "say how many tokens: -n 500")
    if values["lookup"] and values["draft_model"]:
        refuse("--lookup", "--draft-model", "choose one of them")
    if values["lookup"] and not (values["greedy"] or values["temperature"] == 0):
        raise UsageError("--lookup guesses greedy text only", "add --greedy, or use --draft-model")
    if values["beams"] > 1:
        drawn = o.given(context, "temperature", "top_k", "top_p", "min_p", "typical", "seed")
        if drawn:
            refuse("--beams", drawn[0], "beam search draws nothing: leave one out")
