package admission

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ma "github.com/multiformats/go-multiaddr"
)

func someToken(t testing.TB) *Token {
	return &Token{
		Mesh: ID{1, 2, 3}, Inviter: newParty(t).id, Invitation: [8]byte{4}, Secret: [16]byte{5}, Expires: someTime,
		Addrs: []ma.Multiaddr{
			ma.StringCast("/ip4/192.168.1.7/tcp/9338"), ma.StringCast("/ip4/192.168.1.7/udp/9338/quic-v1"),
			ma.StringCast("/ip6/fd00::1/tcp/9338"), ma.StringCast("/dns4/box.local/tcp/9338"),
		},
	}
}

func TestATokenSurvivesCaseAndSpace(t *testing.T) {
	want := someToken(t)
	text := want.String()
	for _, s := range []string{text, strings.ToUpper(text), "  " + text[:40] + "\r\n " + text[40:] + "\n"} {
		got, err := ParseToken(s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b ma.Multiaddr) bool { return a.Equal(b) })); diff != "" {
			t.Error(diff)
		}
	}
	if len(text) > 300 {
		t.Errorf("the token has %d characters", len(text))
	}
}

func TestEveryChangedCharacterIsNoticed(t *testing.T) {
	text := someToken(t).String()
	for i := range text {
		for _, c := range []byte("a7!") {
			if text[i] == c {
				continue
			}
			bad := text[:i] + string(c) + text[i+1:]
			if _, err := ParseToken(bad); !errors.Is(err, ErrTokenChecksum) && !errors.Is(err, ErrTokenForm) {
				t.Fatalf("character %d as %q: %v", i, c, err)
			}
		}
	}
	for _, bad := range []string{"", "weft1", "hello", text[:len(text)-1], text + "a", text[:20], strings.Repeat("a", 3000), "weft1" + strings.Repeat("a", 400)} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrTokenChecksum) && !errors.Is(err, ErrTokenForm) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// reseal gives changed token bytes a good checksum.
func reseal(t *testing.T, token *Token, change func(b []byte) []byte) string {
	t.Helper()
	raw, err := tokenEncoding.DecodeString(strings.ToUpper(strings.TrimPrefix(token.String(), tokenPrefix)))
	if err != nil {
		t.Fatal(err)
	}
	b := change(raw[:len(raw)-checksumSize])
	return tokenPrefix + strings.ToLower(tokenEncoding.EncodeToString(append(b, checksum(b)...)))
}

func TestAWellSealedTokenWithBadContentIsRefused(t *testing.T) {
	const countAt = 1 + 32 + 32 + 8 + 16 + 8
	for name, change := range map[string]func(b []byte) []byte{
		"version":        func(b []byte) []byte { b[0] = 9; return b },
		"expiry":         func(b []byte) []byte { b[countAt-8] = 0xff; return b },
		"too many addrs": func(b []byte) []byte { b[countAt] = 200; return b },
		"missing addr":   func(b []byte) []byte { b[countAt]++; return b },
		"trailing":       func(b []byte) []byte { return append(b, 1) },
		"bad addr":       func(b []byte) []byte { b[countAt+2] = 0xff; return b },
		"addr too long":  func(b []byte) []byte { b[countAt+1] = 250; return b },
	} {
		if _, err := ParseToken(reseal(t, someToken(t), change)); !errors.Is(err, ErrTokenForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATokenHoldsOnlyAddressesToDial(t *testing.T) {
	for _, s := range []string{"/ip4/1.2.3.4", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/1/ws", "/unix/a", "/ip4/1.2.3.4/sctp/4"} {
		token := someToken(t)
		token.Addrs = []ma.Multiaddr{ma.StringCast(s)}
		if _, err := ParseToken(token.String()); !errors.Is(err, ErrTokenForm) {
			t.Errorf("%s: %v", s, err)
		}
	}
	token := someToken(t)
	for range 20 {
		token.Addrs = append(token.Addrs, token.Addrs[0])
	}
	got, err := ParseToken(token.String())
	if err != nil || len(got.Addrs) != maxTokenAddrs {
		t.Errorf("%d addresses, %v", len(got.Addrs), err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(someToken(f).String())
	f.Add("weft1")
	f.Add("weft1aaaa")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseToken(s)
		if err != nil {
			return
		}
		if got, want := token.String(), strings.ToLower(strings.Join(strings.Fields(s), "")); got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

// FuzzSealedToken reaches the fields behind the checksum.
func FuzzSealedToken(f *testing.F) {
	raw, _ := tokenEncoding.DecodeString(strings.ToUpper(strings.TrimPrefix(someToken(f).String(), tokenPrefix)))
	f.Add(raw[:len(raw)-checksumSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		s := tokenPrefix + tokenEncoding.EncodeToString(append(b[:len(b):len(b)], checksum(b)...))
		if token, err := ParseToken(s); err == nil && token.String() != strings.ToLower(s) {
			t.Fatal("two encodings of one token")
		}
	})
}
