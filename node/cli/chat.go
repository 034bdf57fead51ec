package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/weft-mesh/weft/node/api"
	"github.com/weft-mesh/weft/node/chat"
)

const chatHelp = `  /reset   forget the conversation
  /exit    end (Ctrl-D too)
  /help    this list
  Ctrl-C   stop a reply; at the prompt, end
A line that ends in \ goes on in the next one.
`

// conversation is a chat on a terminal.
type conversation struct {
	c       *command
	n       api.Node
	f       *runFlags
	history []chat.Message
	signals chan os.Signal
	lines   chan string // closed at the end of input
}

// chat talks until the user ends it.
func (c *command) chat(ctx context.Context, f *runFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &conversation{c: c, f: f, signals: make(chan os.Signal, 4), lines: make(chan string)}
	signal.Notify(v.signals, os.Interrupt)
	defer signal.Stop(v.signals)
	show := newProgress(c.err)
	defer show.stop()
	start, stop := v.stoppable(ctx)
	n, err := c.connect(start, show.update)
	stop()
	show.stop()
	if err != nil {
		return err
	}
	defer n.close()
	v.n = n
	// The reader ends with the input; a read that blocks ends with the process.
	go v.read(ctx)
	fmt.Fprintln(c.err, "Chat. /help lists commands, Ctrl-D ends.")
	return v.talk(ctx)
}

// read passes lines on until the input or ctx ends.
func (v *conversation) read(ctx context.Context) {
	defer close(v.lines)
	in := bufio.NewScanner(v.c.in)
	in.Buffer(nil, maxPrompt)
	for in.Scan() {
		select {
		case v.lines <- in.Text():
		case <-ctx.Done():
			return
		}
	}
}

func (v *conversation) talk(ctx context.Context) error {
	for {
		text, ok := v.ask(ctx)
		if !ok {
			fmt.Fprintln(v.c.err)
			return nil
		}
		switch strings.TrimSpace(text) {
		case "":
		case "/exit", "/quit", "/bye":
			return nil
		case "/reset":
			v.history = nil
			fmt.Fprintln(v.c.err, "The conversation is forgotten.")
		case "/help", "/?":
			fmt.Fprint(v.c.err, chatHelp)
		default:
			if name, ok := strings.CutPrefix(text, "/"); ok && !strings.ContainsAny(name, " /") {
				fmt.Fprintf(v.c.err, "%s is no command; /help lists them\n", clean(text))
				continue
			}
			if err := v.turn(ctx, text); err != nil {
				return err
			}
		}
	}
}

// ask reads one message; false is the end.
func (v *conversation) ask(ctx context.Context) (string, bool) {
	fmt.Fprint(v.c.err, "> ")
	var text strings.Builder
	for {
		select {
		case l, ok := <-v.lines:
			if !ok {
				return "", false
			}
			rest, more := strings.CutSuffix(l, `\`)
			text.WriteString(rest)
			if !more {
				return text.String(), true
			}
			text.WriteByte('\n')
			fmt.Fprint(v.c.err, "… ")
		case <-v.signals:
			return "", false
		case <-ctx.Done():
			return "", false
		}
	}
}

// stoppable gives a context that Ctrl-C ends.
func (v *conversation) stoppable(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-v.signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-ended }
}

// turn asks with the conversation so far. An error that the next try may not
// meet does not end the chat.
func (v *conversation) turn(ctx context.Context, text string) error {
	asked := append(v.history, chat.Message{Role: "user", Content: chat.Text(text)})
	r := v.f.request()
	r.Messages = asked
	show := newProgress(v.c.err)
	defer show.stop()
	ctx, stop := v.stoppable(ctx)
	defer stop()
	rep, err := v.c.reply(ctx, v.n, r, show, false)
	show.stop()
	var known *api.Error
	switch {
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(v.c.err, "(stopped)")
	case errors.As(err, &known) && known.Kind != api.KindUnavailable:
		fmt.Fprintln(v.c.err, "weft: "+oneLine(err.Error()))
		if known.Kind == api.KindTooLarge {
			fmt.Fprintln(v.c.err, "/reset forgets the conversation.")
		}
		return nil
	case err != nil:
		return err
	}
	v.history = append(asked, chat.Message{Role: "assistant", Content: chat.Text(rep.Text)})
	return nil
}
