package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// guard decides who may use the HTTP surface: callers with a key, where keys
// are configured, and never a web page of another site, whether by a plain
// cross-site request or by a DNS name rebound to this machine.
type guard struct {
	keys  [][sha256.Size]byte
	hosts map[string]bool // lower case, without port and brackets
}

// Validate says what is wrong with the options before anything listens.
func (o HTTPOptions) Validate() error {
	_, err := newGuard(o)
	return err
}

func newGuard(o HTTPOptions) (*guard, error) {
	g := &guard{hosts: map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}}
	for _, h := range o.Hosts {
		g.hosts[hostOf(h)] = true
	}
	for _, k := range o.Keys {
		if len(k) < 8 {
			return nil, Errorf(KindInvalid, "an API key has fewer than 8 characters; anybody would guess it")
		}
		g.keys = append(g.keys, sha256.Sum256([]byte(k)))
	}
	if o.Addr == "" {
		return g, nil
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, Errorf(KindInvalid, "HTTP address %q: %w; give HOST:PORT, as in 127.0.0.1:4711, or off", o.Addr, err)
	}
	if !isLoopback(host) && len(g.keys) == 0 {
		return nil, Errorf(KindInvalid, "HTTP address %s can be reached from other machines, so it needs an API key: give one with --api-key KEY or WEFT_API_KEY, or listen on 127.0.0.1", o.Addr)
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		g.hosts[hostOf(host)] = true
	}
	return g, nil
}

// hostOf is a Host header's name, in lower case.
func hostOf(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if h, _, err := net.SplitHostPort(s); err == nil {
		s = h
	}
	return strings.TrimSuffix(strings.Trim(s, "[]"), ".")
}

func (g *guard) protect(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.site(r); err != nil {
			writeError(w, err)
			return
		}
		tenant, err := g.tenant(r)
		if err != nil && r.URL.Path != "/healthz" {
			writeError(w, err)
			return
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantKey{}, tenant)))
	})
}

// site refuses requests that a browser made for another site.
func (g *guard) site(r *http.Request) error {
	host := hostOf(r.Host)
	if !g.hosts[host] && !calledByAddress(r, host) {
		return Errorf(KindForbidden, "this weft does not answer to the name %q; if it is right, add it with --host-name", host)
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return Errorf(KindForbidden, "requests of web pages from elsewhere are refused")
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !strings.EqualFold(u.Host, r.Host) {
			return Errorf(KindForbidden, "requests of web pages from elsewhere are refused (origin %.100q)", origin)
		}
	}
	return nil
}

// calledByAddress says whether the host is the very address that the connection
// came in by; no name can be rebound to that.
func calledByAddress(r *http.Request, host string) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, _, err := net.SplitHostPort(local.String())
	if err != nil {
		return false
	}
	ip, want := net.ParseIP(host), net.ParseIP(at)
	return ip != nil && want != nil && ip.Equal(want)
}

type tenantKey struct{}

// tenantOf is whose prefix cache a request may use.
func tenantOf(ctx context.Context) string {
	t, _ := ctx.Value(tenantKey{}).(string)
	return t
}

// tenant checks the request's key and derives from it whose cache is used.
func (g *guard) tenant(r *http.Request) (string, error) {
	if len(g.keys) == 0 {
		return "", nil
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", Errorf(KindAuth, "an API key is needed: send it as Authorization: Bearer KEY")
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(key)))
	found := 0
	for i := range g.keys {
		found |= subtle.ConstantTimeCompare(g.keys[i][:], sum[:])
	}
	if found == 0 {
		return "", Errorf(KindAuth, "the API key is not one of this node's")
	}
	// Hashed once more, so that the value that is compared against leaks nowhere.
	salt := sha256.Sum256(append([]byte("weft tenant\x00"), sum[:]...))
	return hex.EncodeToString(salt[:]), nil
}

// requireSecret guards a loopback port that stands in for a unix socket.
func requireSecret(secret string, h http.Handler) http.Handler {
	if secret == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(got), []byte(secret)) != 1 {
			writeError(w, Errorf(KindAuth, "this port is for the user who runs weft"))
			return
		}
		h.ServeHTTP(w, r)
	})
}
