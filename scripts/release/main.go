// Command release builds weft's archives for every system it runs on, so that
// the same sources and the same Go give the same bytes wherever and whenever
// they are built: no paths, times or owners of the building machine are in them.
//
//	go run ./scripts/release -version v1.2.3 -out dist
//	go run ./scripts/release -targets linux/amd64 -twice
//
// It writes weft-VERSION-OS-ARCH.tar.gz (.zip for Windows) and SHA256SUMS. A target
// OS/ARCH/static, weft-VERSION-OS-ARCH-static.tar.gz, loads no GPU libraries and needs
// no dynamic linker: for systems with another libc, and for empty images.
// -twice builds everything a second time, from another directory and with an
// empty build cache, and compares.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// allTargets are the systems that releases are for.
const allTargets = "linux/amd64,linux/amd64/static,linux/arm64,linux/arm64/static,darwin/arm64,windows/amd64"

// target is a system, and how the program is linked.
type target struct {
	system, arch string
	static       bool
}

func parseTarget(s string) (target, error) {
	part := strings.Split(strings.TrimSpace(s), "/")
	ok := len(part) == 2 || len(part) == 3 && part[2] == "static" && part[0] == "linux"
	if !ok || !safeVersion.MatchString(part[0]) || !safeVersion.MatchString(part[1]) {
		return target{}, fmt.Errorf("target %q is not OS/ARCH, nor linux/ARCH/static", s)
	}
	return target{part[0], part[1], len(part) == 3}, nil
}

func (t target) String() string {
	if t.static {
		return t.system + "/" + t.arch + "/static"
	}
	return t.system + "/" + t.arch
}

// papers go into each archive beside the program.
var papers = []string{"LICENSE", "README.md", "scripts/install.sh"}

type options struct {
	version, out, targets string
	twice                 bool
}

func main() {
	var o options
	flag.StringVar(&o.version, "version", "dev", "what `weft version` says")
	flag.StringVar(&o.out, "out", "dist", "directory to write into")
	flag.StringVar(&o.targets, "targets", allTargets, "OS/ARCH or OS/ARCH/static, separated by commas")
	flag.BoolVar(&o.twice, "twice", false, "build twice and compare")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := release(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// safeVersion is what may be in a file's name and a linker flag.
var safeVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

// release builds all targets into one directory.
func release(ctx context.Context, o options) error {
	if !safeVersion.MatchString(o.version) {
		return fmt.Errorf("version %q may have letters, digits, dots, + and - only", o.version)
	}
	when, err := stamp(ctx, os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	docs, err := readPapers()
	if err != nil {
		return err
	}
	var names []string
	for s := range strings.SplitSeq(o.targets, ",") {
		t, err := parseTarget(s)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "building", t)
		b, err := archive(ctx, o.version, t, when, docs, "")
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		if o.twice {
			if err := again(ctx, o.version, t, when, docs, b); err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
			fmt.Fprintln(os.Stderr, "the same bytes twice:", t)
		}
		name := archiveName(o.version, t)
		if err := os.WriteFile(filepath.Join(o.out, name), b, 0o644); err != nil {
			return err
		}
		names = append(names, name)
	}
	return sums(o.out, names)
}

// again builds a target once more in other circumstances and compares.
func again(ctx context.Context, version string, t target, when time.Time, docs []entry, first []byte) error {
	cache, err := os.MkdirTemp("", "weft-release-cache-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	second, err := archive(ctx, version, t, when, docs, cache)
	if err != nil {
		return err
	}
	if !bytes.Equal(first, second) {
		return errors.New("two builds give different bytes")
	}
	return nil
}

// stamp is the time that everything in the archives bears: SOURCE_DATE_EPOCH, or
// that of the commit, or a fixed one where there is none.
func stamp(ctx context.Context, epoch string) (time.Time, error) {
	if epoch == "" {
		out, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if epoch = strings.TrimSpace(string(out)); err != nil || epoch == "" {
			epoch = "946684800" // 2000-01-01: ZIP knows no year before 1980
		}
	}
	n, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || n < 315532800 || n > 4102444800 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q is no time between 1980 and 2100 in seconds", epoch)
	}
	return time.Unix(n, 0).UTC(), nil
}

func readPapers() ([]entry, error) {
	var out []entry
	for _, p := range papers {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("run this in the checkout's root: %w", err)
		}
		out = append(out, entry{name: filepath.Base(p), data: b, run: strings.HasSuffix(p, ".sh")})
	}
	return out, nil
}

// archive builds the program and packs it. With a cache directory everything is
// compiled anew.
func archive(ctx context.Context, version string, t target, when time.Time, docs []entry, cache string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "weft-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := "weft"
	if t.system == "windows" {
		program += ".exe"
	}
	tags := ""
	if t.static {
		tags = "static"
	}
	path := filepath.Join(dir, program)
	// No path of this machine (-trimpath), no state of its checkout (-buildvcs),
	// no id that depends on them (-buildid), and no C compiler.
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version="+version, "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.system, "GOARCH="+t.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-mod=readonly", "GOEXPERIMENT=")
	if cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+cache)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go build: %w", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list := append([]entry{{name: program, data: b, run: true}}, docs...)
	root := strings.TrimSuffix(strings.TrimSuffix(archiveName(version, t), ".tar.gz"), ".zip")
	if t.system == "windows" {
		return zipped(root, list, when)
	}
	return tarred(root, list, when)
}

func archiveName(version string, t target) string {
	ext := "tar.gz"
	if t.system == "windows" {
		ext = "zip"
	}
	return fmt.Sprintf("weft-%s-%s.%s", version, strings.ReplaceAll(t.String(), "/", "-"), ext)
}
