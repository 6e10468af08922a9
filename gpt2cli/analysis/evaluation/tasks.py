"""The tasks that are built in: a row each, with what is measured by which protocol, where the data comes from, and what
others have published."""

import functools
from collections.abc import Mapping

from gpt2cli.analysis.evaluation import detokenizers, metrics, reading
from gpt2cli.analysis.evaluation.metrics import Measure, Published
from gpt2cli.analysis.evaluation.protocols import Protocol, Task
from gpt2cli.store.datasets import DataFile

_SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")


def _published(source: str, *values: float | None) -> Mapping[str, Published]:
    """Of GPT-2's sizes, the smallest first."""
    found = zip(_SIZES, values, strict=False)
    return {name: Published(value, source) for name, value in found if value is not None}


_PAPER = "Radford et al. 2019, table 3"
_HARNESS = "lm-evaluation-harness"
_GUIDE = "transformers, guide to perplexity"
_CARD = functools.partial(_published, _PAPER)

_LAMBADA = (
    Protocol(
        "lm-eval",
        reading.last_words,
        (
            Measure("acc (last token)", metrics.last_token, published=_published("bflm", 0.4667)),
            Measure(
                "acc (whole word, lm-eval)",
                metrics.whole_target,
                published=_published(_HARNESS, 0.3256, None, None, 0.5121),
            ),
            Measure(
                "perplexity (last word, lm-eval)",
                metrics.per_target,
                "perplexity",
                _published(_HARNESS, 40.06, None, None, 10.63),
            ),
        ),
    ),
    Protocol(
        "openai",
        functools.partial(reading.last_words, made=detokenizers.lambada),
        (
            Measure(
                "acc (last token, straight quotes)",
                metrics.last_token,
                published=_CARD(0.4599, 0.5548, 0.6012, 0.6324),
            ),
        ),
    ),
)


def _wikitext(words: Mapping[str, Published]) -> tuple[Protocol, ...]:
    def guide(small: float | None, large: float) -> tuple[Measure, ...]:
        published = _published(_GUIDE, small, None, large)
        return (Measure("perplexity (token, hf, stride {stride})", metrics.per_token, "perplexity", published),)

    return (
        Protocol("hf-512", reading.joined, guide(None, 16.44), parts=2, joins=True),
        Protocol("hf-1024", reading.joined, guide(29.94, 19.44), parts=1, joins=True),
        Protocol(
            "lm-eval",
            reading.pages,
            (
                Measure("perplexity (word, lm-eval)", metrics.per_word, "perplexity", words),
                Measure("perplexity (byte, lm-eval)", metrics.per_byte, "perplexity"),
                Measure("bits per byte (lm-eval)", metrics.per_byte, "bits"),
            ),
        ),
    )


_PTB = Protocol(
    "stride-512",
    reading.sentences,
    (
        Measure("perplexity (token, stride {stride})", metrics.per_token, "perplexity"),
        Measure("perplexity (word, stride {stride})", metrics.per_word, "perplexity"),
    ),
    parts=2,
    joins=True,
)
_NEWS = Protocol(
    "sentences",
    reading.news,
    (
        Measure("perplexity (word, by sentence)", metrics.per_word, "perplexity", _CARD(75.2, 55.72, 44.575, 42.16)),
        Measure("perplexity (token, by sentence)", metrics.per_token, "perplexity"),
    ),
)


def _bytes(name: str, *card: float) -> Protocol:
    measure = Measure(name + " (stride {stride})", metrics.per_byte, "bits", _CARD(*card))
    return Protocol("stride-512", reading.last_bytes, (measure,), parts=2, single=True)


def _cbt(*card: float) -> tuple[Protocol, ...]:
    return (
        Protocol("sum", reading.clozes, (Measure("acc (sum over the rest)", metrics.right, published=_CARD(*card)),)),
    )


def _wikitext_file(size: int) -> DataFile:
    path = f"wikitext-{size}-raw-v1/test-00000-of-00001.parquet"
    return DataFile("Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3", path)


def _cbt_file(kind: str) -> DataFile:
    path = f"{kind}/test-00000-of-00001.parquet"
    return DataFile("cam-cst/cbt", "72b5c46b1248e3316360f0f2f0b2c39e773b68e4", path)


# The names of BLiMP's sets, of a thousand pairs each; {A,B} are several.
_BLIMP = """
    adjunct_island anaphor_{gender,number}_agreement animate_subject_{passive,trans} causative complex_NP_island
    coordinate_structure_constraint_{complex_left_branch,object_extraction}
    determiner_noun_agreement_{1,2,irregular_1,irregular_2,with_adj_2,with_adj_irregular_1,with_adj_irregular_2}
    determiner_noun_agreement_with_adjective_1 distractor_agreement_relati{onal_noun,ve_clause} drop_argument
    ellipsis_n_bar_{1,2} existential_there_{object_raising,quantifiers_1,quantifiers_2,subject_raising}
    expletive_it_object_raising inchoative intransitive irregular_past_participle_{adjectives,verbs}
    irregular_plural_subject_verb_agreement_{1,2} left_branch_island_{echo,simple}_question
    matrix_question_npi_licensor_present npi_present_{1,2} only_npi_{licensor_present,scope} passive_{1,2}
    principle_A_{c_command,case_1,case_2,domain_1,domain_2,domain_3,reconstruction}
    regular_plural_subject_verb_agreement_{1,2} sentential_negation_npi_{licensor_present,scope}
    sentential_subject_island superlative_quantifiers_{1,2} tough_vs_raising_{1,2} transitive wh_island
    wh_questions_{object_gap,subject_gap,subject_gap_long_distance}
    wh_vs_that_{no_gap,no_gap_long_distance,with_gap,with_gap_long_distance}
"""


def _blimp_files() -> tuple[DataFile, ...]:
    names = []
    for word in _BLIMP.split():
        before, _, rest = word.partition("{")
        inside, _, after = rest.partition("}")
        names += [f"{before}{one}{after}" for one in inside.split(",")]
    return tuple(DataFile("nyu-mll/blimp", "main", f"{name}/train-00000-of-00001.parquet") for name in sorted(names))


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "lambada",
            _LAMBADA,
            (
                DataFile(
                    "EleutherAI/lambada_openai",
                    "900124bf3b8235c6daf21033af9948b3f07346c4",
                    "data/lambada_test.jsonl",
                    "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
                ),
            ),
        ),
        Task("wikitext2", _wikitext(_published(_HARNESS, 37.37, None, None, 17.48)), (_wikitext_file(2),)),
        Task("wikitext103", _wikitext(_CARD(37.5, 26.37, 22.05, 17.48)), (_wikitext_file(103),)),
        Task(
            "ptb",
            (_PTB,),
            (DataFile("ptb-text-only/ptb_text_only", "refs/convert/parquet", "penn_treebank/test/0000.parquet"),),
        ),
        Task(
            "enwik8",
            (_bytes("bits per byte", 1.16, 1.01, 0.97, 0.93),),
            where="it is on no hub: download http://mattmahoney.net/dc/enwik8.zip",
        ),
        Task(
            "text8",
            (_bytes("bits per character", 1.17, 1.06, 1.02, 0.98),),
            (DataFile("afmck/text8", "main", "data/test-00000-of-00001.parquet"),),
        ),
        Task("cbt-cn", _cbt(0.8765, 0.9235, 0.9345, 0.933), (_cbt_file("CN"),)),
        Task("cbt-ne", _cbt(0.834, 0.871, 0.88, 0.8905), (_cbt_file("NE"),)),
        Task(
            "1bw",
            (_NEWS,),
            (
                DataFile(
                    "billion-word-benchmark/lm1b",
                    "8d52bfd3cc2819fc1166dbb8144c328e2690de3e",
                    "plain_text/test/0000.parquet",
                    "d3c7b4b2a48c24e9ae8353d6316dbac1453b08f2d870da9fa096c941e8f4cc8a",
                ),
            ),
        ),
        Task(
            "blimp",
            (Protocol("lm-eval", reading.minimal_pairs, (Measure("acc (lm-eval)", metrics.right),)),),
            _blimp_files(),
        ),
    )
}
