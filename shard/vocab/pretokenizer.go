package vocab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// pretokenizer cuts text into the words that merging does not cross.
type pretokenizer struct {
	stages     []stage
	wholeWords bool // a word that is a token needs no merges
	addBOS     bool // the default where the file does not say
}

// stage cuts a segment and emits all of it, piece by piece, none empty.
type stage func(segment string, emit func(string))

// words emits the words of text, in order; together they are text.
func (p pretokenizer) words(text string, emit func(string)) { cutWith(p.stages, text, emit) }

func cutWith(stages []stage, segment string, emit func(string)) {
	if len(stages) == 0 {
		emit(segment)
		return
	}
	stages[0](segment, func(s string) { cutWith(stages[1:], s, emit) })
}

// isolate makes a stage of a scanner: each match is a piece, and what lies between matches too.
func isolate(scan scanner) stage {
	return func(s string, emit func(string)) {
		gap := 0
		for i := 0; i < len(s); {
			end := scan(s, i)
			if end < 0 {
				_, _, n := at(s, i)
				i += n
				continue
			}
			if gap < i {
				emit(s[gap:i])
			}
			emit(s[i:end])
			i, gap = end, end
		}
		if gap < len(s) {
			emit(s[gap:])
		}
	}
}

// The expressions below are those of the models' own tokenizer definitions. \s is White_Space; (?i: ) is ASCII here.

// gpt2Words: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func gpt2Words() stage {
	return isolate(firstOf(contraction(false), spaced(cLetter), spaced(cNumber),
		spacedOther(cSpace|cLetter|cNumber, ""), spaces))
}

// cl100kWords: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// with the tail of the fourth alternative as given.
func cl100kWords(digits int, tail string) stage {
	return isolate(firstOf(contraction(true), prefixed(cNewline|cLetter|cNumber, cLetter), numbers(digits),
		spacedOther(cSpace|cLetter|cNumber, tail), newlines, spaces))
}

// qwen35Words is cl100kWords with marks as letters.
func qwen35Words() stage {
	return isolate(firstOf(contraction(true), prefixed(cNewline|cLetter|cNumber, cLetter|cMark), numbers(1),
		spacedOther(cSpace|cLetter|cMark|cNumber, "\r\n"), newlines, spaces))
}

// o200kWords: words cut at capitals (casedWord), with their contraction if suffix, then as cl100kWords with tail \r\n/.
func o200kWords(digits int, suffix bool) stage {
	return isolate(firstOf(casedWord(suffix, false), numbers(digits),
		spacedOther(cSpace|cLetter|cNumber, "\r\n/"), newlines, spaces))
}

// kimiWords is o200kWords with runs of Chinese characters as words of their own.
func kimiWords() stage {
	return isolate(firstOf(runOf(inClass(cHan)), casedWord(true, true), numbers(3),
		spacedOther(cSpace|cLetter|cNumber, "\r\n"), newlines, spaces))
}

// deepseek3Words: [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func deepseek3Words() stage {
	return isolate(firstOf(markedWord, prefixed(cNewline|cLetter|cPunct|cSymbol, cLetter|cMark),
		spacedRun(cPunct|cSymbol, "\r\n"), newlines, spaces))
}

// punctuation: [\p{P}$+<=>^~|]+ and the characters of more.
func punctuation(more string) stage {
	inside := inSet("$+<=>^~|" + more)
	return isolate(runOf(func(r rune, c class) bool { return c&cPunct != 0 || inside(r, c) }))
}

// sentenceWords: " ?[^(\s|.,!?…。，、।۔،)]+"
func sentenceWords() stage {
	border := inSet("(|.,!?…。，、।۔،)")
	return isolate(spacedRunOf(func(r rune, c class) bool { return c&cSpace == 0 && !border(r, c) }))
}

// lineEnds: [\r\n], each on its own.
func lineEnds(s string, i int) int {
	if s[i] == '\r' || s[i] == '\n' {
		return i + 1
	}
	return -1
}

// threeDigits: [0-9][0-9][0-9]
func threeDigits(s string, i int) int {
	if i+3 > len(s) {
		return -1
	}
	for _, b := range []byte(s[i : i+3]) {
		if b < '0' || b > '9' {
			return -1
		}
	}
	return i + 3
}

// finalSpaces: \s+$
func finalSpaces(s string, i int) int {
	// A match begins where its run of white space begins, so no run is looked at twice.
	if before := lastClass(s[:i]); before&cSpace != 0 {
		return -1
	}
	if end := run(s, i, cSpace); end > i && end == len(s) {
		return end
	}
	return -1
}

// groupDigits cuts each run of ASCII digits into threes counted from its end: (?=(\d{3})+(?!\d))
func groupDigits(s string, emit func(string)) {
	isDigit := func(b byte) bool { return b >= '0' && b <= '9' }
	from := 0
	for i := 0; i < len(s); {
		end := i
		for end < len(s) && isDigit(s[end]) {
			end++
		}
		for cut := i + (end-i)%3; cut < end; cut += 3 {
			if cut > from {
				emit(s[from:cut])
				from = cut
			}
		}
		i = max(end, i+1)
	}
	if from < len(s) {
		emit(s[from:])
	}
}

// lines: [^\n]+|\n+
func lines(s string, i int) int {
	end := i + 1
	for end < len(s) && (s[end] == '\n') == (s[i] == '\n') {
		end++
	}
	return end
}

func pre(stages ...stage) pretokenizer { return pretokenizer{stages: stages} }

func wholeWords(p pretokenizer) pretokenizer {
	p.wholeWords = true
	return p
}

func withBOS(p pretokenizer) pretokenizer {
	p.addBOS = true
	return p
}

// pretokenizers is by the name in tokenizer.ggml.pre. Names with the same expression stand together.
var pretokenizers = func() map[string]pretokenizer {
	t := make(map[string]pretokenizer)
	add := func(p pretokenizer, names ...string) {
		for _, n := range names {
			t[n] = p
		}
	}
	add(pre(gpt2Words()), "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "gigachat",
		"a.x-4.0", "mellum")
	add(pre(isolate(numbers(1)), gpt2Words()), "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone",
		"minerva-7b", "mellum2")
	add(wholeWords(withBOS(pre(cl100kWords(3, "\r\n")))), "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1",
		"pixtral", "midm-2.0", "lfm2")
	add(pre(cl100kWords(3, "\r\n")), "dbrx", "smaug-bpe", "chatglm-bpe", "glm4")
	add(pre(cl100kWords(1, "\r\n")), "qwen2", "deepseek-r1-qwen", "megrez", "kormo", "f2llmv2", "stablelm2", "hunyuan",
		"solar-open", "grok-2", "bailingmoe", "bailingmoe2", "llada-moe")
	add(pre(qwen35Words()), "qwen35")
	add(pre(cl100kWords(1, "")), "seed-coder")
	add(wholeWords(pre(isolate(numbers(3)), cl100kWords(0, "\r\n"))), "minicpm5")
	add(pre(isolate(lines), cl100kWords(1, "\r\n")), "laguna")
	add(pre(o200kWords(3, true)), "gpt-4o", "llama4", "kanana2", "minimax-m2")
	add(wholeWords(withBOS(pre(o200kWords(1, false)))), "tekken")
	add(pre(kimiWords()), "kimi-k2")
	add(pre(isolate(numbers(3)), isolate(runOf(inTable(kanaHan))), deepseek3Words()), "deepseek-v3", "hunyuan-dense",
		"joyai-llm", "hy_v4")
	add(pre(isolate(lineEnds), isolate(anySpaced(inTable(deepseekLetters))), isolate(anySpaced(inTable(deepseekMarks))),
		isolate(finalSpaces), isolate(runOf(inTable(deepseekEast))), isolate(numbers(0))), "deepseek-llm")
	add(pre(isolate(lineEnds), isolate(anySpaced(inClass(cLetter))), isolate(anySpaced(inClass(cPunct))),
		isolate(runOf(inTable(deepseekEast))), isolate(numbers(1))), "deepseek-coder")
	add(pre(punctuation("`"), gpt2Words(), isolate(threeDigits)), "falcon")
	add(pre(sentenceWords()), "bloom", "poro-chat", "gpt3-finnish")
	add(pre(sentenceWords(), isolate(numbers(1))), "viking")
	add(pre(isolate(numbers(0)), groupDigits), "superbpe")
	add(pre(punctuation(""), gpt2Words(), isolate(numbers(0)), isolate(threeDigits)), "default")
	return t
}()

// Pretokenizers lists the names in tokenizer.ggml.pre that are supported, sorted.
func Pretokenizers() []string { return slices.Sorted(maps.Keys(pretokenizers)) }

func findPretokenizer(name string) (pretokenizer, error) {
	if name == "" {
		return pretokenizer{}, fmt.Errorf("%s is missing, so it is unknown how the model's text was cut into words; convert the model again with a current converter", keyPre)
	}
	p, ok := pretokenizers[name]
	if !ok {
		return pretokenizer{}, fmt.Errorf("pre-tokenizer %q (%s) is not known; known are: %s", name, keyPre, strings.Join(Pretokenizers(), ", "))
	}
	return p, nil
}
