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
	flag.IntVar(&s.batch, "parallel", 16, "sessions at once; 0 leaves them out")
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

// compareAll compares file after file and writes the document after each, so
// that what was measured is kept when a later file fails.
func (s *settings) compareAll(ctx context.Context, files []string, doc string) error {
	if len(files) == 0 {
		return errors.New("no GGUF file to compare with")
	}
	begin, before := time.Now(), load()
	var rows []row
	for _, file := range files {
		more, err := s.compare(ctx, file)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		rows = append(rows, more...)
		text := s.section(rows, begin, before)
		if doc == "" {
			continue
		}
		if err := write(doc, text); err != nil {
			return err
		}
	}
	fmt.Println(s.section(rows, begin, before))
	return nil
}

// compare takes all pairs of one file.
func (s *settings) compare(ctx context.Context, file string) ([]row, error) {
	inside, err := s.lend(file)
	if err != nil {
		return nil, err
	}
	// Packing, hashing and the page cache are not what is compared.
	if _, err := s.solo(ctx, file, s.threads[0], 16, 1); err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(file), ".gguf")
	var rows []row
	for _, threads := range s.threads {
		pp, tg := row{model: name, test: fmt.Sprintf("pp%d", s.prompt), threads: threads}, row{model: name, test: fmt.Sprintf("tg%d", s.gen), threads: threads}
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
		rows = append(rows, pp, tg)
	}
	if s.batch == 0 {
		return rows, nil
	}
	threads := s.threads[len(s.threads)-1]
	many := row{model: name, test: fmt.Sprintf("tg%d, %d sessions", s.gen, s.batch), threads: threads}
	for i := range s.pairs {
		ours, err := s.together(ctx, file, threads)
		if err != nil {
			return nil, err
		}
		theirs, err := s.llamaBatched(ctx, inside, threads)
		if err != nil {
			return nil, err
		}
		many.add(i, ours, theirs)
	}
	return append(rows, many), nil
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
