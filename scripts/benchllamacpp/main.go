// Command benchllamacpp compares weft with llama.cpp on the same files with the
// same numbers of threads. Both programs run in turn (A B A B), one process a
// sample, and what counts are the ratios of the pairs: whatever else the machine
// does meets both of them. It prints every pair and writes the medians into a
// document, file by file, between marks of its own. It judges nothing.
//
// It is started by scripts/bench-llamacpp, which sets llama.cpp up and makes the
// variants of a model. Start reading at compare.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are one comparison's.
type settings struct {
	weft    string // the binary
	home    string // its state directory
	root    string // directory of the system that llama.cpp is installed in
	pairs   int
	threads []int
	prompt  int
	gen     int
	batch   int // sessions at once; 0 leaves them out
	depth   int // tokens that each of these begins with
}

func main() {
	var s settings
	var doc, threads string
	flag.StringVar(&s.weft, "weft", "./weft", "the binary to measure")
	flag.StringVar(&s.home, "home", ".cache/bench-home", "state directory of weft")
	flag.StringVar(&s.root, "root", ".cache/llamacpp", "directory of the system with llama.cpp")
	flag.IntVar(&s.pairs, "pairs", 5, "pairs of each figure, at least 5")
	flag.StringVar(&threads, "t", "1,2", "numbers of threads")
	flag.IntVar(&s.prompt, "p", 512, "tokens of a prompt")
	flag.IntVar(&s.gen, "n", 64, "tokens to decode")
	flag.IntVar(&s.batch, "parallel", 16, "sessions at once, with the first number of threads; 0 leaves them out")
	flag.IntVar(&s.depth, "depth", 128, "tokens that each of these sessions begins with")
	flag.StringVar(&doc, "doc", "", "document whose section is written anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := s.parse(threads)
	if err == nil {
		err = s.compareAll(ctx, flag.Args(), doc)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchllamacpp:", err)
		stop()
		os.Exit(1)
	}
}

func (s *settings) parse(threads string) error {
	if s.pairs < 5 {
		return errors.New("-pairs must be at least 5, or a median means little")
	}
	for _, t := range strings.Split(threads, ",") {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 {
			return fmt.Errorf("-t is %q; give numbers of threads, as 1,2", threads)
		}
		s.threads = append(s.threads, n)
	}
	return nil
}

// phase takes one kind of pairs of one file, which llama.cpp knows by the second
// path.
type phase func(ctx context.Context, file, inside string) ([]row, error)

// phases are taken one after the other with all files, the steadiest figures
// first.
func (s *settings) phases() []phase {
	var out []phase
	for i, threads := range s.threads {
		out = append(out, func(ctx context.Context, file, inside string) ([]row, error) {
			return s.alone(ctx, file, inside, threads)
		})
		if i == 0 && s.batch > 0 {
			out = append(out, func(ctx context.Context, file, inside string) ([]row, error) {
				return s.many(ctx, file, inside, threads)
			})
		}
	}
	return out
}

// compareAll writes the document after each file of each phase, so that what was
// measured is kept when something later fails or the user stops it.
func (s *settings) compareAll(ctx context.Context, files []string, doc string) error {
	if len(files) == 0 {
		return errors.New("no GGUF file to compare with")
	}
	begin, before := time.Now(), load()
	byFile := make([][]row, len(files))
	text := ""
	for _, take := range s.phases() {
		for f, file := range files {
			inside, err := s.lend(file)
			if err != nil {
				return err
			}
			more, err := take(ctx, file, inside)
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(file), err)
			}
			byFile[f] = append(byFile[f], more...)
			text = s.section(slices.Concat(byFile...), begin, before)
			if doc == "" {
				continue
			}
			if err := written.Write(doc, text); err != nil {
				return err
			}
		}
	}
	fmt.Println(text)
	return nil
}

// alone takes the pairs of prefill and decode of one session.
func (s *settings) alone(ctx context.Context, file, inside string, threads int) ([]row, error) {
	// Packing, hashing and the page cache are not what is compared.
	if _, err := s.solo(ctx, file, threads, 16, 1); err != nil {
		return nil, err
	}
	pp, tg := s.row(file, fmt.Sprintf("pp%d", s.prompt), threads), s.row(file, fmt.Sprintf("tg%d", s.gen), threads)
	for i := range s.pairs {
		ours, err := s.solo(ctx, file, threads, s.prompt, s.gen)
		if err != nil {
			return nil, err
		}
		theirs, err := s.llamaBench(ctx, inside, threads)
		if err != nil {
			return nil, err
		}
		pp.add(i, ours.prefill, theirs.prefill)
		tg.add(i, ours.decode, theirs.decode)
		tg.read = append(tg.read, ours.share)
	}
	return []row{pp, tg}, nil
}

// many takes the pairs of decode with many sessions at once.
func (s *settings) many(ctx context.Context, file, inside string, threads int) ([]row, error) {
	r := s.row(file, fmt.Sprintf("tg%d x%d", s.gen, s.batch), threads)
	for i := range s.pairs {
		ours, err := s.together(ctx, file, threads)
		if err != nil {
			return nil, err
		}
		theirs, err := s.llamaBatched(ctx, inside, threads)
		if err != nil {
			return nil, err
		}
		r.add(i, ours, theirs)
	}
	return []row{r}, nil
}

func (s *settings) row(file, test string, threads int) row {
	return row{model: strings.TrimSuffix(filepath.Base(file), ".gguf"), test: test, threads: threads}
}

// lend makes a file visible inside llama.cpp's system and gives its path there.
func (s *settings) lend(file string) (string, error) {
	inside := filepath.Join("/models", filepath.Base(file))
	to := filepath.Join(s.root, inside)
	from, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(to); err == nil && (os.SameFile(st, from) || st.Size() == from.Size() && !st.ModTime().Before(from.ModTime())) {
		return inside, nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	_ = os.Remove(to)
	if err := os.Link(file, to); err == nil {
		return inside, nil
	}
	return inside, copyFile(to, file)
}
