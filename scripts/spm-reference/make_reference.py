#!/usr/bin/env python3
"""Train small SentencePiece vocabularies and record their ids: make_reference.py OUTDIR (see README.md)."""
import gzip
import io
import json
import os
import sys

import sentencepiece

HERE = os.path.dirname(os.path.abspath(__file__))
USER_SYMBOLS = ["<tool>", "==>"]

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

STRINGS = [
    "", " ", "  ", "   ", "a", " a", "a ", "  a  ", "hello", "Hello, world!", " hello", "hello ", "hello  world", "hello   world",
    "\n", "\n\n", "a\nb", "a\n\nb", "a \n b", "\ta", "a\tb", "\t\t", "\r\n", "line one\r\nline two", " \n", "\n ", "   \n   ",
    "The kettle clicked off.", "the the the the", "THE LADDER", "camelCaseWord", "snake_case_word", "kebab-case-word",
    "0", "7", "42", "123", "1234567890", "3.14159", "1,000,000", "-17", "2^10", "0x1F", "1e-5", "50%", "$9.99",
    "it's", "don't", "we'll", "they'd've", "'quoted'", "\"double\"", "(parentheses)", "[brackets]", "{braces}", "<tag>",
    "a/b/c", "a\\b\\c", "x = y + z;", "if (a && b) { return !c; }", "for i in range(10):\n    print(i)\n", "#include <stdio.h>",
    "https://example.org/path?q=1&r=2#frag", "name@example.org", "...", "!!!", "?!?!", "--", "---", "=====", "****", "~~~",
    "café", "naïve", "Ünïcödé", "façade", "señor", "Straße", "ångström", "œuvre", "ÀÉÎÕÜ", "e\u0301", "n\u0303o",
    "Привет, мир", "Καλημέρα κόσμε", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "안녕하세요 세계", "こんにちは世界", "你好,世界", "中文和English混合",
    "😀", "😀😀😀", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "a😀b", " 😀 ", "text with 🚀 inside", "☕️", "♥", "→ ← ↑ ↓", "∑∫√∞", "½ ¼ ¾", "№ § ¶",
    "\u00a0", "a\u00a0b", "\u2003em\u2003space", "\u3000wide", "zero\u200bwidth", "\ufeffbom", "soft\u00adhyphen", "\u2028", "a\u0000b", "\u0001\u0002",
    "▁", "▁a", "a▁b", "a ▁ b", "<s>", "</s>", "<unk>", "<0x0A>", "<0x41>", "a<s>b", "[INST] hi [/INST]",
    "<tool>", "a<tool>b", "a <tool> b", "==>", "x==>y", "x ==> y", "<tool><tool>", "====>", "<too", "<tool>==>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababab", "thethethethe", "                                a", "x" * 100, "ha " * 20,
    "kitchen kitchen\tkitchen\nkitchen", "The  ladder   leaned    against     the wall.", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𐍈𐌰𐌽𐌰", "\U0010ffff",
    "Tuesday afternoon was quiet, and nobody had moved the ladder since the morning; the kettle had gone cold.",
    "First line.\n\n  - an item\n  - another item\n\nLast line.\n",
]


def train(prefix, squeeze, user):
    model = io.BytesIO()
    with open(os.path.join(HERE, "text.txt"), encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=900, byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=squeeze,
        add_dummy_prefix=prefix, split_digits=True, allow_whitespace_only_pieces=True, user_defined_symbols=user,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def kind(sp, i, user):
    if sp.is_unknown(i):
        return UNKNOWN
    if sp.is_control(i):
        return CONTROL
    if sp.is_byte(i):
        return BYTE
    if sp.is_unused(i):
        return UNUSED
    return USER if sp.id_to_piece(i) in user else NORMAL


def record(out, name, prefix, squeeze, user):
    sp = train(prefix, squeeze, user)
    n = sp.get_piece_size()
    data = {
        "add_space_prefix": prefix,
        "remove_extra_whitespaces": squeeze,
        "pieces": [sp.id_to_piece(i) for i in range(n)],
        "scores": [sp.get_score(i) for i in range(n)],
        "types": [kind(sp, i, user) for i in range(n)],
        "cases": [],
    }
    for text in STRINGS:
        ids = sp.encode(text, out_type=int)
        data["cases"].append({"text": text, "ids": ids, "decoded": sp.decode(ids)})
    path = os.path.join(out, name + ".json.gz")
    with open(path, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
        z.write(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
    print(path, n, "pieces", len(data["cases"]), "cases")


def main():
    out = sys.argv[1]
    record(out, "spm_llama", True, False, [])
    record(out, "spm_squeeze", True, True, [])
    record(out, "spm_plain", False, False, USER_SYMBOLS)


if __name__ == "__main__":
    main()
