package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
)

// maxPrompt bounds a prompt from stdin.
const maxPrompt = 8 << 20

// runFlags are the settings of `weft run`; unset ones are the model's.
type runFlags struct {
	model     string
	temp      float64
	seed      uint64
	maxTokens int
	ctx       int
	raw, json bool
	speculate string
	draft     string

	hasTemp, hasSeed bool
}

func (c *command) run() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [MODEL] [PROMPT]",
		Short: "Ask a model",
		Long: `Asks a model and streams the reply to stdout. The prompt is the argument, or
stdin, or both; on a terminal without a prompt a chat begins. A first argument
that is the name of a model or a GGUF file is the model (-m takes every argument
for the prompt). Without a daemon the model runs inside this command.`,
		Example: `  weft run "Why is the sky blue?"
  weft run smollm2 "Why is the sky blue?"
  weft run -m ./model.gguf --temp 0 "Why is the sky blue?"
  weft run "Summarise:" < report.txt`,
		Args: cobra.ArbitraryArgs,
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.model, "model", "m", "", "name, name@hash or GGUF file (default the only or the last used `MODEL`)")
	fl.Float64Var(&f.temp, "temp", 0, "temperature; 0: likeliest token (default the model's)")
	fl.Uint64Var(&f.seed, "seed", 0, "the same seed gives the same reply (default random)")
	fl.IntVar(&f.maxTokens, "max-tokens", 0, "end the reply after this many tokens")
	fl.IntVar(&f.ctx, "ctx", 0, "context in tokens with the prompt (default the model's)")
	fl.BoolVar(&f.raw, "raw", false, "no chat template: continue the text")
	fl.StringVar(&f.speculate, "speculate", "", "off, sync, async or auto: draft ahead of the stages; never changes the reply (default the node's, auto)")
	fl.StringVar(&f.draft, "draft-model", "", "name, name@hash or GGUF file of a small `MODEL` of the same vocabulary that drafts, or none (default the node's)")
	fl.BoolVar(&f.json, "json", false, "print one JSON object instead of the text")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.hasTemp, f.hasSeed = fl.Changed("temp"), fl.Changed("seed")
		return c.runRun(cmd.Context(), &f, args)
	}
	return cmd
}

func (f *runFlags) check() error {
	var err error
	switch {
	case f.maxTokens < 0:
		err = fmt.Errorf("--max-tokens is %d; give 1 or more", f.maxTokens)
	case f.ctx < 0:
		err = fmt.Errorf("--ctx is %d; give 1 or more", f.ctx)
	case f.temp < 0:
		err = fmt.Errorf("--temp is %v; give 0 or more", f.temp)
	}
	if err == nil {
		err = api.CheckSpeculate(f.speculate)
	}
	if err != nil {
		return usageError{err}
	}
	if f.draft, err = modelRef(f.draft); err != nil {
		return err
	}
	f.model, err = modelRef(f.model)
	return err
}

// modelRef makes a file's path absolute: the daemon has a working directory of
// its own.
func modelRef(ref string) (string, error) {
	isPath := strings.HasSuffix(strings.ToLower(ref), ".gguf") || strings.HasPrefix(ref, ".") || filepath.IsAbs(ref)
	if _, err := os.Stat(ref); err != nil {
		if isPath {
			return "", fmt.Errorf("model %s: %w", ref, err)
		}
		return ref, nil
	}
	if !isPath && !strings.ContainsRune(ref, filepath.Separator) {
		return ref, nil // a name that happens to be a file's too
	}
	return filepath.Abs(ref)
}

// request is what the flags say about a reply.
func (f *runFlags) request() api.GenerateRequest {
	r := api.GenerateRequest{Model: f.model, MaxTokens: f.maxTokens, Context: f.ctx, StateHash: f.json, Speculate: f.speculate, DraftModel: f.draft}
	if f.hasTemp {
		r.Temperature = &f.temp
	}
	if f.hasSeed {
		r.Seed = &f.seed
	}
	return r
}

func (c *command) runRun(ctx context.Context, f *runFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	talk := &talk{c: c}
	defer talk.close()
	if f.model == "" && len(args) > 0 {
		named, err := talk.named(ctx, args[0])
		if err != nil {
			return err
		}
		if named != "" {
			f.model, args = named, args[1:]
		}
	}
	prompt, err := c.prompt(args)
	if err != nil {
		return err
	}
	if prompt == "" && isTerminal(c.in) {
		if f.json || f.raw {
			return usageError{errors.New("a prompt is missing: give it as an argument or on stdin")}
		}
		talk.close()
		return c.chat(ctx, f)
	}
	if prompt == "" && !f.raw {
		return usageError{errors.New("the prompt is empty: give it as an argument or on stdin")}
	}
	r := f.request()
	if f.raw {
		r.Prompt = &prompt
	} else {
		r.Messages = []chat.Message{{Role: "user", Content: chat.Text(prompt)}}
	}
	if err := talk.open(ctx); err != nil {
		return err
	}
	rep, err := c.reply(talk.ctx, talk.n, r, talk.show, f.json)
	talk.show.stop()
	if f.json && (err == nil || errors.Is(err, errInterrupted) && rep.Model != "") {
		err = errors.Join(c.printJSON(rep), err)
	}
	return err
}

// talk is the connection to the node that answers, opened when it is needed.
type talk struct {
	c    *command
	n    *connection
	ctx  context.Context // ends when the user stops the reply
	stop func()
	show *progress
}

func (t *talk) open(ctx context.Context) error {
	if t.n != nil {
		return nil
	}
	t.ctx, t.stop = interruptible(ctx)
	t.show = newProgress(t.c.err)
	n, err := t.c.connect(t.ctx, t.show.update)
	if err != nil {
		t.show.stop()
		t.stop()
		return err
	}
	t.n = n
	return nil
}

func (t *talk) close() {
	if t.n == nil {
		return
	}
	t.n.close()
	t.show.stop()
	t.stop()
	t.n = nil
}

// named is the model that the first argument names in full, "" if it is no model's
// name: people who come from other programs write the model there, and would
// wonder what answers them.
func (t *talk) named(ctx context.Context, arg string) (string, error) {
	if arg == "" || len(arg) > maxName || strings.ContainsAny(arg, " \t\n") {
		return "", nil
	}
	if strings.HasSuffix(strings.ToLower(arg), ".gguf") {
		return modelRef(arg)
	}
	if err := t.open(ctx); err != nil {
		return "", err
	}
	models, err := t.n.Models(t.ctx)
	if err != nil {
		return "", nil //nolint:nilerr // the reply itself will say what is wrong
	}
	name, hash, _ := strings.Cut(arg, "@")
	for _, m := range models {
		if m.Name == name && (hash == "" || strings.HasPrefix(m.Hash, strings.ToLower(hash))) {
			return arg, nil
		}
	}
	return "", nil
}

// maxName bounds what may be a model's name.
const maxName = 256

// prompt joins the arguments and what is piped in.
func (c *command) prompt(args []string) (string, error) {
	text := strings.Join(args, " ")
	if !piped(c.in) {
		return text, nil
	}
	b, err := io.ReadAll(io.LimitReader(c.in, maxPrompt+1))
	if err != nil {
		return "", fmt.Errorf("read the prompt from stdin: %w", err)
	}
	if len(b) > maxPrompt {
		return "", fmt.Errorf("the prompt on stdin has more than %s", size(maxPrompt))
	}
	more := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case text == "":
		return more, nil
	case more == "":
		return text, nil
	}
	return text + "\n" + more, nil
}

// piped says whether stdin is a pipe or a file: a terminal and /dev/null are not
// read.
func piped(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return r != nil
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice == 0
}

// reply streams one reply to stdout. When the user stops it, the result holds
// what had come, and the error is errInterrupted.
func (c *command) reply(ctx context.Context, n api.Node, r api.GenerateRequest, show *progress, quiet bool) (api.Reply, error) {
	s := &stream{c: c, show: show, quiet: quiet}
	rep, err := n.Generate(ctx, r, s.event)
	show.clear()
	s.end()
	switch {
	case s.broken != nil:
		return s.got, s.broken
	case err != nil && ctx.Err() != nil, err == nil && rep.FinishReason == "cancelled":
		s.got.FinishReason = "cancelled"
		return s.got, errInterrupted
	case err != nil:
		return rep, err
	}
	if rep.FinishDetail != "" {
		fmt.Fprintln(c.err, "weft: the reply was cut: "+oneLine(rep.FinishDetail))
	}
	return rep, nil
}

// stream prints events as they come and keeps what they said.
type stream struct {
	c      *command
	show   *progress
	quiet  bool
	got    api.Reply
	last   byte
	broken error // stdout cannot be written to
}

func (s *stream) event(e api.Event) error {
	switch p := e.Progress; {
	case p == nil:
	case p.Phase == "failover":
		s.notice(p.Text)
	default:
		s.show.update(*p)
	}
	if e.Start != nil {
		s.got.Model, s.got.Seed, s.got.Plan.Stages = e.Start.Model, e.Start.Seed, e.Start.Stages
		s.got.PromptTokens, s.got.Tokens = []int32{}, []int32{}
	}
	for _, t := range e.Tokens {
		s.got.Tokens = append(s.got.Tokens, t.ID)
	}
	if e.Text == "" {
		return nil
	}
	s.got.Text += e.Text
	if s.quiet {
		return nil
	}
	s.show.clear()
	text := e.Text
	if s.c.out.tty {
		text = safe(text)
	}
	if text == "" {
		return nil
	}
	s.last = text[len(text)-1]
	if _, err := io.WriteString(s.c.out, text); err != nil {
		s.broken = fmt.Errorf("write the reply: %w", err)
		return s.broken
	}
	return nil
}

// notice says something that stays, also in the middle of a reply.
func (s *stream) notice(text string) {
	s.show.clear()
	if s.c.out.tty && s.last != 0 && s.last != '\n' {
		fmt.Fprintln(s.c.err) // the reply's line stays as it is
		s.last = '\n'
	}
	fmt.Fprintln(s.c.err, "weft: "+oneLine(text))
}

// end finishes the last line.
func (s *stream) end() {
	if s.last != 0 && s.last != '\n' {
		_, _ = io.WriteString(s.c.out, "\n")
	}
}
