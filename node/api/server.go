package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Limits of both surfaces.
const (
	maxBody        = 16 << 20 // bytes of a request
	maxHeader      = 32 << 10
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 30 * time.Second // for the whole body
	writeTimeout   = 30 * time.Second // for one piece of a reply
	idleTimeout    = 2 * time.Minute
	shutdownWait   = 5 * time.Second
	defaultPort    = 4711
	defaultPorts   = 100 // how many are tried when the default one is taken
	defaultAddress = "127.0.0.1"
)

// HTTPOptions say where and for whom the OpenAI-compatible surface listens.
type HTTPOptions struct {
	Addr  string   // "host:port"; "" is 127.0.0.1:4711 or the next free port
	Keys  []string // API keys; required beyond loopback
	Hosts []string // further names that clients may call this node by
	Log   *slog.Logger
}

// Surface is a listening HTTP server.
type Surface struct {
	addr     string
	server   *http.Server
	cancel   context.CancelFunc // ends requests that run
	handlers sync.WaitGroup
	served   chan struct{} // closed when Serve has returned
	once     sync.Once
	err      error
}

// ServeLocal serves the whole API to this user's processes at path, a file in
// the node's home or another directory that only the user may enter. A socket
// that a dead process left there is replaced.
func ServeLocal(n Node, path string, log *slog.Logger) (*Surface, error) {
	l, err := listenLocal(path, portFileHere)
	if err != nil {
		return nil, err
	}
	return serveLocal(n, l, log), nil
}

func serveLocal(n Node, l *localListener, log *slog.Logger) *Surface {
	mux := http.NewServeMux()
	openAI := &openAI{node: n, now: time.Now, log: log}
	register(mux, openAI.routes(), meshRoutes(n), trustRoutes(n))
	return serve(l, l.path, requireSecret(l.secret, mux), log)
}

// ServeHTTP serves the OpenAI-compatible surface over TCP. It refuses to listen
// beyond loopback without an API key.
func ServeHTTP(n Node, o HTTPOptions) (*Surface, error) {
	g, err := newGuard(o)
	if err != nil {
		return nil, err
	}
	l, err := listenTCP(o.Addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	openAI := &openAI{node: n, now: time.Now, log: o.Log}
	register(mux, openAI.routes())
	return serve(l, l.Addr().String(), g.protect(mux), o.Log), nil
}

// listenTCP listens at addr; the default address gives way to the next port.
func listenTCP(addr string) (net.Listener, error) {
	if addr != "" {
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, Errorf(KindConflict, "listen for HTTP on %s: the address is in use by another program; choose another with --http HOST:PORT, or leave --http out for the next free port", addr)
		}
		if err != nil {
			return nil, fmt.Errorf("listen for HTTP on %s: %w; choose another address with --http HOST:PORT", addr, err)
		}
		return l, nil
	}
	var err error
	for port := defaultPort; port < defaultPort+defaultPorts; port++ {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(defaultAddress, strconv.Itoa(port))); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("listen for HTTP on ports %d to %d of %s: %w; choose an address with --http HOST:PORT", defaultPort, defaultPort+defaultPorts-1, defaultAddress, err)
}

func serve(l net.Listener, addr string, h http.Handler, log *slog.Logger) *Surface {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Surface{addr: addr, cancel: cancel, served: make(chan struct{})}
	s.server = &http.Server{
		Handler: s.counted(h), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.served)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("http surface stopped", "addr", addr, "error", err)
		}
	}()
	return s
}

// counted lets Close wait for handlers, also those whose connection it closed.
func (s *Surface) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handlers.Add(1)
		defer s.handlers.Done()
		h.ServeHTTP(w, r)
	})
}

// Addr is the path of the socket, or host:port.
func (s *Surface) Addr() string { return s.addr }

// Close stops listening, cancels what runs, and waits until all handlers have
// ended or five seconds have passed. Later calls give the same result.
func (s *Surface) Close() error {
	s.once.Do(func() {
		s.cancel()
		ctx, cancel := context.WithTimeout(context.Background(), shutdownWait)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			s.err = errors.Join(fmt.Errorf("close %s: %w", s.addr, err), s.server.Close())
		}
		<-s.served
		ended := make(chan struct{})
		go func() { s.handlers.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-ctx.Done():
		}
	})
	return s.err
}
