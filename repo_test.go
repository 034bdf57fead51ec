package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/weft-mesh/weft/"

// rule says what the packages of a room may import of weft.
type rule struct {
	room  string   // path prefix
	allow []string // prefixes of what it may import; the room itself always
	why   string
}

// rules hold the first match for a package, so narrower rooms come first.
var rules = []rule{
	{"kernels", nil, "arithmetic knows nothing of models, nodes or networks"},
	{"proto", nil, "messages are plain data"},
	{"scheduler", nil, "the planner is pure and takes plain types"},
	{"shard", []string{"kernels"}, "a model and its pieces know nothing of the network"},
	{"p2p", []string{"proto"}, "machines and links know nothing of models"},
	{"node/cli", []string{"node/api", "node/machine", "node/chat"}, "the command line reaches the daemon through the client only"},
	{"node/spec/spectest", []string{"node/spec", "node/session"}, "the simulator drives real sessions, for tests"},
	{"node/spec", nil, "drafting is pure and knows tokens only"},
	{"node/session", []string{"proto"}, "a head needs no weights and no sockets of its own"},
	{"node", []string{"kernels", "proto", "scheduler", "shard", "p2p"}, "the node joins all rooms"},
	{"scripts/benchmesh", []string{"scripts/marked", "kernels", "proto", "p2p", "shard", "node"}, "the benchmark asks nodes as the command line does, measures a hop of p2p/wire and weights between two stores itself, and profiles a node in its own process"},
	{"scripts/benchlatency", []string{"scripts/marked", "scripts/netlab", "node/api", "node/chat"}, "the benchmark asks nodes as the command line does"},
	{"scripts/netlab", nil, "a network in one machine knows nothing of what runs in it"},
	{"scripts", []string{"shard/store"}, "scripts stand alone, but for the downloader"},
	{"", []string{"node", "node/cli"}, "main calls the command line and gives it the node"},
}

type file struct {
	path, dir string
	ast       *ast.File
}

// sources parses every Go file of the module.
func sources(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			_, nested := os.Stat(filepath.Join(path, "go.mod"))
			if path != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || nested == nil) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if dir == "." {
			dir = ""
		}
		out = append(out, file{filepath.ToSlash(path), dir, f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func inRoom(path, room string) bool {
	return room == "" || path == room || strings.HasPrefix(path, room+"/")
}

func TestImportsGoOneWay(t *testing.T) {
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, imp := range f.ast.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ok := strings.CutPrefix(path, module)
			if ok && !allowed(f.dir, to) {
				t.Errorf("%s imports %s: %s", f.path, to, ruleOf(f.dir).why)
			}
		}
	}
}

func ruleOf(dir string) rule {
	for _, r := range rules {
		if r.room == "" && dir == "" || r.room != "" && inRoom(dir, r.room) {
			return r
		}
	}
	return rule{why: "no rule names this directory: put the package into a room of docs/architecture.md"}
}

func allowed(from, to string) bool {
	r := ruleOf(from)
	if r.room != "" && inRoom(to, r.room) {
		return true
	}
	for _, a := range r.allow {
		if to == a || strings.HasPrefix(to, a+"/") {
			return true
		}
	}
	return false
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	docs := map[string]string{}
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		if _, ok := docs[f.dir]; !ok {
			docs[f.dir] = ""
		}
		if f.ast.Doc != nil {
			docs[f.dir] += f.ast.Doc.Text()
		}
	}
	for dir, doc := range docs {
		if dir == "node/internal" {
			continue
		}
		if len(strings.Fields(doc)) < 8 {
			t.Errorf("package %q has no doc comment that says what it is for", dir)
		}
	}
}

func TestFilesStayReadable(t *testing.T) {
	const most = 400
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") || ast.IsGenerated(f.ast) {
			continue
		}
		b, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > most {
			t.Errorf("%s has %d lines, at most %d: split it", f.path, n, most)
		}
	}
}

// TestDocsPointAtFilesThatExist follows the relative links of the documentation.
func TestDocsPointAtFilesThatExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	docs := []string{"README.md", "CONTRIBUTING.md"}
	_ = filepath.WalkDir("docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			docs = append(docs, path)
		}
		return err
	})
	for _, doc := range docs {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
			}
		}
	}
}
