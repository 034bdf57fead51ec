package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFiguresAreReadFromWhatTheProgramsPrint(t *testing.T) {
	list, err := parseBench([]byte(`{"model":"m","results":[{"n_prompt":512,"n_gen":0,"tokens_per_s":900.5},{"n_prompt":0,"n_gen":64,"tokens_per_s":200,"memory_share":0.9}]}`))
	if err != nil || len(list) != 2 || list[0].Rate != 900.5 || list[1].Share != 0.9 {
		t.Errorf("weft bench: %+v, %v", list, err)
	}
	if _, err := parseBench([]byte(`{"results":[{"n_gen":64}]}`)); err == nil {
		t.Error("a result without a rate was taken")
	}
	f, err := parseLlamaBench([]byte(`[{"n_prompt":512,"n_gen":0,"avg_ts":240.5},{"n_prompt":0,"n_gen":64,"avg_ts":140}]`))
	if err != nil || f.prefill != 240.5 || f.decode != 140 {
		t.Errorf("llama-bench: %+v, %v", f, err)
	}
	for _, bad := range []string{"", "[]", `[{"n_prompt":512,"avg_ts":240.5}]`} {
		if _, err := parseLlamaBench([]byte(bad)); err == nil {
			t.Errorf("%q was taken for llama-bench's figures", bad)
		}
	}
	rate, err := parseBatched([]byte("some line\n{\"pp\": 128, \"tg\": 64, \"pl\": 16, \"speed_pp\": 460.8, \"speed_tg\": 282.54}\n"))
	if err != nil || rate != 282.54 {
		t.Errorf("llama-batched-bench: %v, %v", rate, err)
	}
	if _, err := parseBatched([]byte("nothing\n")); err == nil {
		t.Error("a batched run without figures was taken")
	}
}

func TestRatioIsTheMedianOfThePairsAndNotOfTheMedians(t *testing.T) {
	r := row{model: "m", test: "tg64", threads: 2, ours: []float64{10, 100, 30}, theirs: []float64{1, 50, 10}}
	if got := median(r.ratios()); got != 3 {
		t.Errorf("ratio %v, want 3", got)
	}
	s := &settings{pairs: 5, batch: 16, depth: 128}
	text := s.section([]row{r}, time.Unix(0, 0), "1 2 3")
	for _, want := range []string{"| m     | 2       | tg64 | 30.0 (10.0–100.0) | 10.0 (1.0–50.0) | **3.00 (2.00–10.00)** |", "before: 1 2 3", "5 pairs"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestOnlyTheOwnSectionOfTheDocumentIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.md")
	doc := "head\n" + written.Begin + "\nold\n" + written.End + "\ntail\n"
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := written.Write(path, "new\n"); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(path)
	if got, want := string(b), "head\n"+written.Begin+"\n\nnew\n\n"+written.End+"\ntail\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := written.Replace("no marks", "x"); err == nil {
		t.Error("a document without marks was written")
	}
}

func TestFileIsLentToTheOtherSystemOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "m.gguf")
	if err := os.WriteFile(file, []byte("weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &settings{root: filepath.Join(dir, "root")}
	for range 2 {
		inside, err := s.lend(file)
		if err != nil || inside != "/models/m.gguf" {
			t.Fatalf("%q, %v", inside, err)
		}
		if b, _ := os.ReadFile(filepath.Join(s.root, inside)); string(b) != "weights" {
			t.Fatalf("the other system sees %q", b)
		}
	}
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	if err := (&settings{pairs: 4}).parse("1"); err == nil {
		t.Error("4 pairs were taken")
	}
	if err := (&settings{pairs: 5}).parse("1,x"); err == nil {
		t.Error("x threads were taken")
	}
	s := &settings{pairs: 5}
	if err := s.parse("1,2"); err != nil || len(s.threads) != 2 {
		t.Errorf("%v, %v", s.threads, err)
	}
}
