"""The commonest words of English, by the package wordfreq.

read("wordfreq:20000")     # ["the", "to", "and", …], the commonest first

A word has two or more letters, all from a to z. The list holds what people write: most of its words name nothing that
an image can show, and some are offensive.
"""

from __future__ import annotations

from itertools import islice

from dissectdb.extract.study import StudyError

PREFIX = "wordfreq:"


def read(source: str) -> list[str]:
    """The words of "wordfreq:NUMBER", the commonest first. Raises StudyError."""
    number = source.removeprefix(PREFIX)
    if not (number.isascii() and number.isdigit() and len(number) < 9 and int(number) >= 2):
        raise StudyError(f'{source!r}: write how many words, from 2, as in "wordfreq:20000"')
    try:
        import wordfreq
    except ModuleNotFoundError:
        raise StudyError(f"{source} needs the wordfreq package: pip install 'dissectdb[words]'") from None
    listed = wordfreq.iter_wordlist("en", wordlist="large")
    words = list(islice((word for word in listed if len(word) > 1 and word.isascii() and word.isalpha()), int(number)))
    if len(words) < int(number):
        raise StudyError(
            f"{source}: wordfreq has {len(words):,} such English words; write at most {PREFIX}{len(words)}"
        )
    return words
