import re
import sys
from unicodedata import category, combining, normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.words import is_spaceless, normal, pieces, spelling, words, written

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
spelled_alike = [
    ("NAÏVE café", "naïve café"),
    ("nai\u0308ve cafe\u0301", "naïve café"),
    ("STRASSE", "straße"),
    ("ﬁne №１", "fine no1"),
    ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ("Київ", "КИЇВ"),
    ("ｶﾞﾗｽ", "ガラス"),
    ("do\u00adnau\u200bdampf", "donaudampf"),  # a soft hyphen, a space of no width
    ("می\u200cروم", "میروم"),  # a joiner that is not seen
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("Likes   COFFEE!", "likes coffee"),
        ("favourite-drink", "favourite-drink"),
        ("a.b_c:d/e+f-g", "a.b_c:d/e+f-g"),
        ("`a\" 'b' (c) [d] {e} <f>", "a b c d e f"),
        ("„a“ ‚b‘ «c» ‹d› “e” ‘f’ g´s", "a b c d e f g s"),
        ("x\0y\x1fz", "x y z"),
        ("a|b*c%d\\e^f~g=h&i$j#k@l", "a b c d e f g h i j k l"),
        ("日本語、の先生。", "日本語 の先生"),
        ("हिन्दी में", "हिन्दी में"),
        ("I ❤️ tea", "i tea"),
        ("\u0301alone -\u0301 a\u0327\u0301", "alone - \u00e1\u0327"),
        ("\ud800half", "half"),
    ],
)
def test_the_normal_form(text: str, expected: str) -> None:
    assert normal(text) == normalize("NFKC", expected)


@pytest.mark.parametrize(("one", "other"), spelled_alike)
def test_what_looks_alike_is_spelled_alike(one: str, other: str) -> None:
    assert normal(one) == normal(other)
    assert words(one) == words(other) != []
    assert pieces(one) == pieces(other)
    assert spelling(one) == spelling(other)


def test_different_scripts_never_collide() -> None:
    different = ("naïve café", "naive cafe", "日本語", "日本", "कि", "की", "क", "его", "ero")
    assert len({normal(text) for text in different}) == len(different)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", []),
        ("é e\u0301", []),
        ("a bc a BC d", ["bc"]),
        ("to be or not to be", ["to", "be", "or", "not"]),
        ("c++ .net a- -1", ["c++", ".net", "a-", "-1"]),
        ("-- ... _ +/-", []),
        ("日 の カ ก ກ ក မ", ["日", "の", "カ", "ก", "ກ", "ក", "မ"]),
        ("я ا क 한", []),
        ("🙂 ❤️", []),
        ("1 42", ["42"]),
    ],
)
def test_the_words_that_are_asked_for(text: str, expected: list[str]) -> None:
    assert words(text) == expected == written(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("日本", ["日本"]),
        ("日本語", ["日本", "本語"]),
        ("日本語の日本", ["日本", "本語", "語の", "の日"]),
        ("ｶﾞﾗｽ", ["ガラ", "ラス"]),
        ("がぐげ", ["がぐ", "ぐげ"]),
        ("ชาเย็น", ["ชา", "าเ", "เย็", "ย็น"]),
        ("ກາເຟ", ["ກາ", "າເ", "ເຟ"]),
        ("ខ្មែរ", ["ខ្មែ", "មែរ"]),
        ("မြန်မာ", ["မြန်", "န်မာ"]),
        ("日本語、英語", ["日本", "本語", "英語"]),
        ("日本-語/英語の本", ["日本", "語", "英語", "語の", "の本"]),
        ("東京tower2階", ["東京", "tower2", "階"]),
        ("C++を使う node.js入門", ["c++", "を使", "使う", "node.js", "入門"]),
        ("x軸とy軸", ["軸と", "軸"]),
        ("한국어 हिन्दी", ["한국어", "हिन्दी"]),
    ],
)
def test_of_a_script_without_spaces_each_two_pieces_are_asked_for(
    text: str, expected: list[str]
) -> None:
    assert words(text) == expected


def test_a_word_of_a_script_without_spaces_is_told_from_others() -> None:
    for word in ("日本", "の", "ガラ", "ชา", "ກາ", "ខ្មែ", "မြန်"):
        assert is_spaceless(word), word
    for word in ("tea", "naïve", "42", "київ", "한국어", "हिन्दी", "مرحبا", "-1"):
        assert not is_spaceless(word), word


@given(texts)
def test_what_is_asked_for_is_made_of_a_text_s_pieces(text: str) -> None:
    run = "".join(pieces(text))
    assert all("".join(pieces(word)) in run for word in words(text))
    assert len(words(text)) <= len(run)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("favourite-drink a.b", ["favourite", "drink", "a", "b"]),
        ("--", []),
        ("c++", ["c"]),
        ("日本語の先生", list("日本語の先生")),
        ("東京tower2階", ["東", "京", "tower2", "階"]),
        ("ガラス", ["ガ", "ラ", "ス"]),
        ("กี่", ["กี่"]),
        ("ខ្មែរ", ["ខ្", "មែ", "រ"]),
        ("หมา", ["ห", "ม", "า"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("葛\U000e0100城", ["葛", "城"]),
        ("한국어 사람", ["한국어", "사람"]),
        ("हिन्दी", ["हिन्दी"]),
        ("مُحَمَّد", ["مُحَمَّد"]),
        ("Київ", ["київ"]),
        ("Ελλάδα", ["ελλάδα"]),
        ("שָׁלוֹם", [normalize("NFKC", "שָׁלוֹם")]),
    ],
)
def test_the_pieces_that_are_indexed(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_a_spelling_tells_where_each_piece_ends() -> None:
    assert spelling("Favourite-drink: 日本") == "|favourite|-|drink|:| |日|本|"
    assert spelling("art") not in spelling("party parts start")
    assert spelling("art") in spelling("state-of-the-art.")
    assert spelling("日本") in spelling("大日本語")
    assert spelling("日本") not in spelling("日 本")
    assert spelling("favourite drink") not in spelling("favourite-drink")


def test_no_more_than_30_marks_in_a_row_count() -> None:
    # Sorted as they come, each of these would take minutes.
    many = 100_000
    for pair in ("\u0301\u0316", "\u0301\u034f\u0316\u034f", "\uff9e\u0316", "\u0f73\u0f73"):
        assert normal(f"q{pair * many}b™ {pair * many}") == normal(f"q{pair * 15}b™"), ascii(pair)
    assert normal(f"a{'🙂' * 40}™") == "a tm"


def test_nothing_else_turns_into_marks() -> None:
    starts = (chr(code) for code in range(sys.maxunicode + 1) if not combining(chr(code)))
    leading = {each for each in starts if combining(normalize("NFKD", each)[0])}
    assert leading == set("\u0f73\u0f75\u0f81\uff9e\uff9f")


@given(texts)
def test_spelling_again_changes_nothing(text: str) -> None:
    assert normal(normal(text)) == normal(text)


@given(texts)
def test_composed_and_decomposed_text_are_the_same(text: str) -> None:
    assert normal(normalize("NFD", text)) == normal(normalize("NFC", text)) == normal(text)


@given(texts)
def test_nothing_but_words_is_left(text: str) -> None:
    found = normal(text)
    assert found == " ".join(found.split())
    for character in found:
        assert character in " ._:/+-" or category(character)[0] in "LNM"


@given(texts)
def test_a_piece_is_one_token_for_a_tokenizer_that_splits_at_ascii(text: str) -> None:
    tokens = re.findall(r"[^\x00-/:-@\[-`{-\x7f]+", spelling(text))
    assert (
        tokens == pieces(text) == [piece for word in normal(text).split() for piece in pieces(word)]
    )


def test_every_character_has_one_spelling() -> None:
    """Those of planes 0 and 1; beyond are ideographs only."""
    for start in range(0, 0x20000, 512):
        once = normal(" ".join(f"x{chr(code)}y {chr(code)}" for code in range(start, start + 512)))
        assert normal(once) == once, hex(start)
