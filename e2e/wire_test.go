//go:build unix

package e2e_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/weft-mesh/weft/p2p/admission"
	"github.com/weft-mesh/weft/shard/gguf"
)

// tap passes TCP connections on to an address and keeps what flows.
type tap struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex // guards flows
	flows []*bytes.Buffer
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{l: l, to: to}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.wg.Wait() })
	return p
}

func (p *tap) pass(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer up.Close()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
		kept := &flow{p: p, b: &bytes.Buffer{}}
		p.mu.Lock()
		p.flows = append(p.flows, kept.b)
		p.mu.Unlock()
		wg.Go(func() {
			_, _ = io.Copy(io.MultiWriter(way[1], kept), way[0])
			_ = way[1].Close()
		})
	}
	wg.Wait()
}

// flow is one direction of one connection.
type flow struct {
	p *tap
	b *bytes.Buffer
}

func (f *flow) Write(b []byte) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	return f.b.Write(b)
}

func (p *tap) seen(b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flows {
		if bytes.Contains(f.Bytes(), b) {
			return true
		}
	}
	return false
}

func (p *tap) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, f := range p.flows {
		n += f.Len()
	}
	return n
}

// forms are a secret and how it might be written.
func forms(b []byte) map[string][]byte {
	out := map[string][]byte{
		"plain": b, "hex": []byte(hex.EncodeToString(b)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(b))),
		"base32": []byte(strings.ToLower(base32.StdEncoding.EncodeToString(b[:len(b)/5*5]))),
	}
	for i := range 3 { // where in a group of three bytes it begins
		if whole := b[i : i+(len(b)-i)/3*3]; len(whole) > 0 {
			out["base64, shift "+string(rune('0'+i))] = []byte(base64.StdEncoding.EncodeToString(whole))
			out["base64url, shift "+string(rune('0'+i))] = []byte(base64.URLEncoding.EncodeToString(whole))
		}
	}
	return out
}

// layerBytes are bytes of a tensor in the middle of a model.
func layerBytes(t *testing.T, path string, layer string) []byte {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tensor := range f.Tensors {
		if strings.HasPrefix(tensor.Name, "blk."+layer+".ffn_down") {
			b, err := f.Data(tensor)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Clone(b[64:96])
		}
	}
	t.Fatal("no such tensor")
	return nil
}

// TestNothingOnTheWireIsReadable records all that flows between two nodes
// while one joins by a code, a third by a token, layers are sent and a prompt
// is answered.
func TestNothingOnTheWireIsReadable(t *testing.T) {
	const prompt = "The weaver of Samarkand hides a letter in her cloth"
	path := deep(t, 24)
	a := up(t, "ada", home(t), "--memory", "14MB")
	mustRun(t, a.home, "add", path, "--name", "m", "--ctx", "256")
	wire := newTap(t, a.port(t))

	b := launch(t, "bob", home(t), "--memory", "14MB", "--peer", wire.l.Addr().String())
	code := b.code(t, "")
	mustRun(t, a.home, "approve", code)
	if err := b.await(t); err != nil {
		t.Fatal(err)
	}
	b.seesModel(t, "m")
	rep := replyOf(t, mustRun(t, b.home, "run", "-m", "m", "--raw", "--json", "--temp", "1", "--seed", "3", "--max-tokens", "24", prompt))
	if len(rep.Plan.Stages) != 2 {
		t.Fatalf("plan %+v", rep.Plan)
	}

	token, err := admission.ParseToken(mustRun(t, a.home, "invite"))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/" + strings.TrimPrefix(wire.l.Addr().String(), "127.0.0.1:"))
	if err != nil {
		t.Fatal(err)
	}
	token.Addrs = []ma.Multiaddr{tcp}
	up(t, "eve", home(t), "--memory", "0", "--join", token.String())

	// The layers have crossed, so the record holds what there was to hide; and
	// what is never hidden is found, so the search works.
	if n := wire.size(); n < 1<<20 {
		t.Errorf("only %d bytes were recorded", n)
	}
	if !wire.seen([]byte("/multistream/1.0.0")) {
		t.Error("the search does not find what is there")
	}
	plain := strings.ReplaceAll(code, "-", "")
	for what, secret := range map[string][]byte{
		"the prompt": []byte(prompt), "a part of the prompt": []byte("Samarkand"), "the reply": []byte(rep.Text),
		"the code": []byte(plain), "the code as shown": []byte(code), "the code's secret part": []byte(plain[2:7]),
		"the token": []byte(token.String()), "the token's secret": token.Secret[:],
		"the first layer's weights": layerBytes(t, path, "0"), "the last layer's weights": layerBytes(t, path, "23"),
	} {
		if len(secret) < 5 {
			t.Errorf("%s is %q", what, secret)
			continue
		}
		for form, bytes := range forms(secret) {
			// Fewer bytes would be found by chance in some megabytes.
			if len(bytes) >= 5 && wire.seen(bytes) {
				t.Errorf("%s is on the wire (%s)", what, form)
			}
		}
	}
}
