"""One normalisation for all text: what it undoes, what it leaves alone, and the way back to what was written."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.plain import plain, positions

TRICKY = "aаbсоshiткйxéİſß ZWw.@$0134!_-*~ \t&;#ltgamp/:\x01\x03\u200b\u0301\u0338ﬁ한ᄀ\u1161🅰🇫Σ"
TRICKS = st.text(st.sampled_from(TRICKY), max_size=24)
ANYTHING = st.one_of(st.text(max_size=60), TRICKS)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Hello   World\n", "hello world"),
        ("f4ck sh1t $hit a$$hole b!tch @ss a$$ hell0 3vil", "fack shit shit asshole bitch ass ass hello evil"),
        ("s h i t, s.h.i.t f_u_c_k", "shit, shit fuck"),
        ("s p a c e d  o u t", "spaced out"),
        ("s h 1 t", "shit"),
        ("pаypal hеllо", "paypal hello"),  # Cyrillic а, е, о
        ("ραypal", "paypal"),  # Greek
        ("xуй", "хуй"),  # a Latin x in a word that only Cyrillic can write
        ("niiiiiice!!!!!!", "niiice!!!"),
        ("fu\u200bck f\u00aduck \u202efuck\u202c", "fuck fuck fuck"),
        ("z̸̡͓͍a̵͝l̴͔͘g̵o", "zalgo"),
        ("ｆｕｃｋ 𝓯𝓾𝓬𝓴 🅵🆄🅲🅺 ꜰᴜᴄᴋ 🇫🇺🇨🇰", "fuck fuck fuck fuck fuck"),
        ("&lt;b&gt; &amp;amp;lt; AT&T", "<b> < at+t"),
        ("see https://a.b/c?d=1 www.x.y", "see \x03 \x03"),
        ("@bob hi, @sspecial", "\x04 hi, asspecial"),
        ("", ""),
    ],
)
def test_tricks_are_undone(written: str, read: str) -> None:
    assert plain(written) == read


@pytest.mark.parametrize(
    "text",
    [
        "10k viewers at 4pm, the 3rd and 5th of 2026: mp3, covid19, $100, 3days, 1st",
        "ты где был вчера вечером?",
        "καλημέρα σε όλους",
        "नमस्ते दुनिया",
        "สวัสดีชาวโลก",
        "今天天气很好。",
        "안녕하세요 세계",
        "שלום עולם",
        "مرحبا بالعالم",
        "xin chào thế giới",
        "résumé naïve straße ğüş",
        "well... e.g. this, ok?! wow!",
    ],
)
def test_languages_and_numbers_stay(text: str) -> None:
    assert plain(text) == unicodedata.normalize("NFKC", text).lower()


@settings(max_examples=1500, deadline=None)
@given(ANYTHING)
@example("a  b c")
@example("A\r0 A")
@example("&#38;lt; &а\u200bmp;")
@example("\ud800 \udfff")
def test_it_is_idempotent_and_total(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    once.encode()
    assert not {"\x00", "\x01", "\x02", "\n"} & set(once)


@settings(max_examples=1500, deadline=None)
@given(ANYTHING)
@example("ﷺ x İ ﬁ")
@example("s p a c e d  o u t &amp;lt; 한")
@example("&Amp")
def test_every_character_knows_where_it_comes_from(text: str) -> None:
    index = positions(text)
    read = plain(text)
    assert len(index) == len(read)
    assert index == sorted(index)
    assert all(0 <= place < len(text) for place in index)


def test_positions_lead_to_what_was_written() -> None:
    text = "  He said: S.H.1.T &amp; www.x.y niiiiiice"
    read, index = plain(text), positions(text)
    at = read.index("shit")
    assert text[index[at] : index[at + 4]] == "S.H.1.T"
    at = read.index("\x03")
    assert text[index[at] : index[at + 1]] == "www.x.y"
    assert [text[place] for place in index[-6:]] == list("niiice")


@pytest.mark.parametrize(
    "text",
    ["a" * 65536, "&amp;" * 13000, "a " * 32768, "a 1 " * 16384, "аa" * 32768, "@" * 65536, "1a" * 32768],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    plain(text)
    assert time.process_time() - began < 0.5
