#!/usr/bin/env python3
"""Record how the models' own regular expressions cut text into words: make_pretokens.py OUT.json.gz (see README.md)."""
import gzip
import json
import random
import sys

import regex

from make_reference import STRINGS

CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CL100K.replace("{1,3}", "")
O200K_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PREFIX = r"[^\r\n\p{L}\p{N}]?"
HAN = r"(?!\p{Han})"
EAST = "[\u0800-\u9fa5\uac00-\ud7ff]+"

# The characters that DeepSeek LLM's expression lists, as ranges of code points.
DEEPSEEK_LETTERS = """
41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c
38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b
1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4
1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113
2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b
2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06
fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df
1e900-1e943
""".split()


def char_class(ranges):
    return "".join("-".join(f"\\U{int(x, 16):08x}" for x in r.split("-")) for r in ranges)


PRETOKENIZERS = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [CL100K],
    "qwen2": [QWEN2],
    "qwen35": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "bailingmoe": [r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "seed-coder": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "minicpm5": [r"\p{N}{1,3}", CL100K.replace("{1,3}", "+")],
    "laguna": [r"[^\n]+|[\n]+", QWEN2],
    "gpt-4o": [f"{PREFIX}{UP}*{LOW}+{CONTRACTION}?|{PREFIX}{UP}+{LOW}*{CONTRACTION}?|" + r"\p{N}{1,3}" + O200K_TAIL],
    "tekken": [f"{PREFIX}{UP}*{LOW}+|{PREFIX}{UP}+{LOW}*|" + r"\p{N}" + O200K_TAIL],
    "kimi-k2": [r"[\p{Han}]+|" + f"{PREFIX}(?:{HAN}{UP})*(?:{HAN}{LOW})+{CONTRACTION}?|{PREFIX}(?:{HAN}{UP})+(?:{HAN}{LOW})*{CONTRACTION}?|"
                + r"\p{N}{1,3}" + O200K_TAIL.replace("/]", "]")],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
                    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST, r"\p{N}"],
    "deepseek-llm": [r"[\r\n]", rf"\s?[{char_class(DEEPSEEK_LETTERS)}]+",
                     r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$", EAST, r"\p{N}+"],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "bloom": [r" ?[^(\s|.,!?…。，、।۔،)]+"],
    "viking": [r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"],
    "superbpe": [r"\p{N}+", r"(?=(?:[0-9]{3})+(?![0-9]))"],
}

ALPHABET = ["a", "b", "Z", "Q", "'s", "'LL", "'", " ", "  ", "\n", "\r\n", "\t", "1", "23", "4567", ".", ",", "!", "/", "-", "_", "(", "$", "+",
            "é", "É", "ß", "e\u0301", "ǅ", "ʰ", "中", "文", "ひ", "カ", "한", "я", "Я", "ע", "ा", "न", "½", "٣", "😀", "。", "、", "…", "\u3000",
            "\u00a0", "\u200b", "€", "^", "`", "~", "|", "<", "=", "@", "\u0000", "Ω", "ﬁ", "ż", "ա", "Ꙁ", "ქ", "！", "‘"]


def split(stages, text):
    words = [text] if text else []
    for stage in stages:
        out = []
        for w in words:
            at = 0
            for m in regex.finditer(stage, w):
                if m.start() > at:
                    out.append(w[at:m.start()])
                if m.end() > m.start():
                    out.append(m.group())
                at = m.end()
            if at < len(w):
                out.append(w[at:])
        words = out
    return words


def main():
    random.seed(20)
    texts = list(STRINGS)
    for _ in range(350):
        texts.append("".join(random.choice(ALPHABET) for _ in range(random.randint(2, 24))))
    data = {"texts": texts, "words": {name: [split(s, t) for t in texts] for name, s in PRETOKENIZERS.items()}}
    with open(sys.argv[1], "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
        z.write(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
