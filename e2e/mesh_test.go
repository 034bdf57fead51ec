//go:build unix

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/node/api"
)

// bytesOf is what must not depend on who computes a reply.
type bytesOf struct {
	Prompt, Tokens []int32
	Text, Finish   string
	Hash           string
}

func bytesIn(r api.Reply) bytesOf {
	return bytesOf{r.PromptTokens, r.Tokens, r.Text, r.FinishReason, r.StateHash}
}

func replyOf(t *testing.T, out string) api.Reply {
	t.Helper()
	var r api.Reply
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return r
}

// halves are two nodes that can hold half of a model each, and a head with an
// HTTP surface that holds nothing.
func halves(t *testing.T, memory string) (all []*daemon, head *daemon) {
	t.Helper()
	all = mesh(t, spec{name: "a", memory: memory}, spec{name: "b", memory: memory},
		spec{name: "head", memory: "0", args: []string{"--http", "127.0.0.1:0"}})
	return all, all[2]
}

func TestAPromptTypedOnANodeWithoutWeightsGivesTheSoloReply(t *testing.T) {
	path := deep(t, 24)
	all, head := halves(t, "14MB")
	mustRun(t, all[0].home, "add", path, "--name", "m", "--ctx", "512")
	head.seesModel(t, "m")

	args := []string{"--raw", "--json", "--temp", "0.8", "--seed", "5", "--max-tokens", "30", "There was a weaver"}
	solo := home(t)
	mustRun(t, solo, "add", path, "--name", "m", "--ctx", "512")
	want := replyOf(t, mustRun(t, solo, append([]string{"run", "-m", "m"}, args...)...))
	got := replyOf(t, mustRun(t, head.home, append([]string{"run"}, args...)...))
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Errorf("(-solo +mesh):\n%s", diff)
	}
	if len(got.Plan.Stages) != 2 || len(want.Plan.Stages) != 1 {
		t.Errorf("plans %+v and, alone, %+v", got.Plan, want.Plan)
	}
	if len(want.Tokens) != 30 || want.StateHash == "" {
		t.Errorf("the solo reply is %+v", want)
	}
	idle(t, all...)
	t.Run("over HTTP", func(t *testing.T) { httpSaysTheSame(t, head, want) })
	t.Run("hanging up", func(t *testing.T) { hangingUpCancels(t, all, head) })
	t.Run("ctrl-c", func(t *testing.T) { interruptEndsAReply(t, all, head) })
	t.Run("files", func(t *testing.T) { filesStayOpenNoLonger(t, all, head) })
	t.Run("restart", func(t *testing.T) { aRestartedNodeIsAMember(t, all, head) })
}

func post(t *testing.T, d *daemon, path string, body any) *http.Response {
	t.Helper()
	s, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTP+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// httpSaysTheSame holds both forms of both completions to what the command line
// printed.
func httpSaysTheSame(t *testing.T, head *daemon, want api.Reply) {
	body := map[string]any{"model": "m", "prompt": "There was a weaver", "temperature": 0.8, "seed": 5, "max_tokens": 30}
	whole := completion(t, post(t, head, "/v1/completions", body))
	body["stream"] = true
	streamed := stream(t, post(t, head, "/v1/completions", body))
	if whole != want.Text || streamed != want.Text {
		t.Errorf("the command line says %q, HTTP %q, streamed %q", want.Text, whole, streamed)
	}
	chat := map[string]any{"messages": []map[string]string{{"role": "user", "content": "weave"}}, "temperature": 1, "seed": 9, "max_tokens": 20}
	whole = completion(t, post(t, head, "/v1/chat/completions", chat))
	chat["stream"] = true
	streamed = stream(t, post(t, head, "/v1/chat/completions", chat))
	line := replyOf(t, mustRun(t, head.home, "run", "--json", "--temp", "1", "--seed", "9", "--max-tokens", "20", "weave"))
	if whole != streamed || whole == "" {
		t.Errorf("a chat is %q, streamed %q", whole, streamed)
	}
	if line.Text != whole {
		t.Errorf("a chat is %q over HTTP and %q on the command line", whole, line.Text)
	}
}

type choice struct {
	Text    string                    `json:"text"`
	Message struct{ Content string }  `json:"message"`
	Delta   struct{ Content *string } `json:"delta"`
}

func completion(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %v: %s", resp.Status, err, b)
	}
	var c struct{ Choices []choice }
	if err := json.Unmarshal(b, &c); err != nil || len(c.Choices) != 1 {
		t.Fatalf("%v: %s", err, b)
	}
	return c.Choices[0].Text + c.Choices[0].Message.Content
}

func stream(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasSuffix(strings.TrimSpace(string(b)), "data: [DONE]") {
		t.Fatalf("%s %v: %s", resp.Status, err, b)
	}
	text := ""
	for line := range strings.Lines(string(b)) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var c struct{ Choices []choice }
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		for _, ch := range c.Choices {
			text += ch.Text
			if ch.Delta.Content != nil {
				text += *ch.Delta.Content
			}
		}
	}
	return text
}

// hangingUpCancels ends a streamed reply by closing the connection.
func hangingUpCancels(t *testing.T, all []*daemon, head *daemon) {
	resp := post(t, head, "/v1/completions", map[string]any{
		"prompt": "There was a weaver", "temperature": 0, "seed": 1, "max_tokens": 400, "stream": true, "logit_bias": map[string]float64{"2": -100},
	})
	if _, err := io.ReadFull(resp.Body, make([]byte, 40)); err != nil {
		t.Fatal(err)
	}
	if s, err := head.Status(t.Context()); err != nil || s.Sessions != 1 {
		t.Errorf("%d replies run: %v", s.Sessions, err)
	}
	resp.Body.Close()
	begin := time.Now()
	idle(t, all...)
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("it took %v to notice", d)
	}
}

// interruptEndsAReply presses Ctrl-C in `weft run`.
func interruptEndsAReply(t *testing.T, all []*daemon, head *daemon) {
	cmd := exec.Command(weft, "run", "--raw", "--temp", "1.5", "--seed", "3", "There was a weaver")
	cmd.Env = environ(head.home)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("weft run ended %v after Ctrl-C", d)
	}
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("weft run ended with %d", code)
	}
	idle(t, all...)
}

// open counts a process's open files.
func (d *daemon) open(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Skip("not run: open files cannot be counted here")
	}
	return len(list)
}

// filesStayOpenNoLonger counts files and memory over many replies.
func filesStayOpenNoLonger(t *testing.T, all []*daemon, head *daemon) {
	for range 5 {
		if _, err := head.ask(t, "m", 2, nil); err != nil {
			t.Fatal(err)
		}
	}
	var before []int
	for _, d := range all {
		before = append(before, d.open(t))
	}
	for i := range 50 {
		if _, err := head.ask(t, "m", 2, nil); err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
	}
	for i, d := range all {
		if n := d.open(t); n > before[i]+4 {
			t.Errorf("%s has %d files open, %d before 50 replies", d.name, n, before[i])
		}
	}
}

// aRestartedNodeIsAMember ends a node in good order and starts it again without
// an invitation; then the model is there without a fetch.
func aRestartedNodeIsAMember(t *testing.T, all []*daemon, head *daemon) {
	b := all[1]
	want, err := head.ask(t, "m", 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.stop(t)
	b.ended = true
	if _, err := os.Stat(filepath.Join(b.home, api.SocketName)); err == nil {
		t.Error("its socket is left behind")
	}
	head.sees(t, 2)
	again := up(t, "b", b.home, "--memory", "14MB")
	head.sees(t, 3)
	again.sees(t, 3)
	got, err := head.ask(t, "m", 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bytesIn(want), bytesIn(got)); diff != "" {
		t.Errorf("(-before +after the restart):\n%s", diff)
	}
	idle(t, all[0], again, head)
}
