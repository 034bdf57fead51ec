package store_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-mesh/weft/kernels"
	"github.com/weft-mesh/weft/shard/model"
	"github.com/weft-mesh/weft/shard/store"
	"github.com/weft-mesh/weft/shard/store/manifest"
)

// two is a store with the models a and b.
func two(t *testing.T) (*store.Store, store.Entry, store.Entry, string) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, store.Options{})
	var es []store.Entry
	for i, name := range []string{"a", "b"} {
		path := filepath.Join(dir, name+".gguf")
		spec{seed: uint64(i), layers: 1}.write(t, path)
		e, err := s.Add(t.Context(), path, store.AddOptions{})
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return s, es[0], es[1], dir
}

func TestResolveFindsAnEntryByAnyOfItsReferences(t *testing.T) {
	s, a, b, dir := two(t)
	for ref, want := range map[string]store.Entry{
		"a": a, "b": b, "a@" + a.Model.String(): a, b.Ref(): b, "@" + b.Model.String()[:9]: b,
		"a@" + strings.ToUpper(a.Model.String()[:4]): a, filepath.Join(dir, "b.gguf"): b,
	} {
		got, err := s.Resolve(ref)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", ref, d)
		}
	}
}

func TestResolveOfNothingIsTheOnlyOrTheLastUsed(t *testing.T) {
	s, a, b, _ := two(t)
	if _, err := s.Resolve(""); !errors.Is(err, store.ErrAmbiguous) || !strings.Contains(err.Error(), a.Ref()) || !strings.Contains(err.Error(), b.Ref()) {
		t.Fatalf("the candidates are not listed: %v", err)
	}
	for range 2 {
		if err := s.MarkUsed(b); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Resolve(""); err != nil || got.Name != "b" {
		t.Fatal(got, err)
	}
	if _, err := s.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Resolve(""); err != nil || got.Name != "a" {
		t.Fatal(got, err)
	}
	if err := s.MarkUsed(b); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"", "a"} {
		if _, err := s.Resolve(ref); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "weft pull") {
			t.Fatal(err)
		}
	}
}

func TestResolveErrorsSayWhatThereIs(t *testing.T) {
	s, a, _, dir := two(t)
	if _, err := s.Resolve("c"); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), a.Ref()) {
		t.Error(err)
	}
	if _, err := s.Resolve("a@ffff0000ff"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	other := filepath.Join(dir, "c.gguf")
	spec{}.write(t, other)
	if _, err := s.Resolve(other); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "weft add") {
		t.Error(err)
	}
	if _, err := s.Remove(""); err == nil {
		t.Error("nothing was removed")
	}
	if _, err := s.Remove("c"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func TestClashingNameIsAnErrorThatListsBoth(t *testing.T) {
	s, a, b, dir := two(t)
	_, err := s.Add(t.Context(), filepath.Join(dir, "b.gguf"), store.AddOptions{Name: "a"})
	if !errors.Is(err, store.ErrClash) || !strings.Contains(err.Error(), a.Ref()) || !strings.Contains(err.Error(), "a@"+b.Model.Short()) {
		t.Errorf("another model: %v", err)
	}
	_, err = s.Add(t.Context(), filepath.Join(dir, "a.gguf"), store.AddOptions{Profile: model.Profile{Act: kernels.Act16}})
	if !errors.Is(err, store.ErrClash) || !strings.Contains(err.Error(), "c1-a8-f16-2048") || !strings.Contains(err.Error(), "c1-a16-f16-2048") {
		t.Errorf("another profile: %v", err)
	}
	e, err := s.Add(t.Context(), filepath.Join(dir, "a.gguf"), store.AddOptions{
		Name: "a16", Profile: model.Profile{Act: kernels.Act16, KV: kernels.KVF32, Context: 100},
	})
	if err != nil || e.Model != a.Model || e.Profile.String() != "c1-a16-f32-100" {
		t.Errorf("another name: %+v, %v", e, err)
	}
	if all, err := s.List(); err != nil || len(all) != 3 || all[1].Name != "a16" {
		t.Errorf("%v, %v", all, err)
	}
}

func TestImportedNamesMayClashAndResolveAsks(t *testing.T) {
	s, a, b, _ := two(t)
	m, err := s.Manifest(b.Model)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Import(m.Encode(), b.Model, store.AddOptions{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve("a"); !errors.Is(err, store.ErrAmbiguous) || !strings.Contains(err.Error(), a.Ref()) || !strings.Contains(err.Error(), e.Ref()) {
		t.Error(err)
	}
	if got, err := s.Resolve(e.Ref()); err != nil || got.Model != b.Model {
		t.Error(got, err)
	}
	// The same again changes nothing; with another profile it is a clash.
	if again, err := s.Import(m.Encode(), b.Model, store.AddOptions{Name: "a"}); err != nil || !again.Added.Equal(e.Added) {
		t.Error(again, err)
	}
	if _, err := s.Import(m.Encode(), b.Model, store.AddOptions{Name: "a", Profile: model.Profile{Act: kernels.Act16}}); !errors.Is(err, store.ErrClash) {
		t.Error(err)
	}
	for name, f := range map[string]func() error{
		"another identity": func() error { _, err := s.Import(m.Encode(), a.Model, store.AddOptions{Name: "x"}); return err },
		"no manifest": func() error {
			_, err := s.Import([]byte("x"), manifest.Sum([]byte("x")), store.AddOptions{Name: "x"})
			return err
		},
		"no name": func() error { _, err := s.Import(m.Encode(), b.Model, store.AddOptions{}); return err },
		"bad profile": func() error {
			_, err := s.Import(m.Encode(), b.Model, store.AddOptions{Name: "x", Profile: model.Profile{Act: 7}})
			return err
		},
	} {
		if f() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAddRefusesWhatCannotBeRun(t *testing.T) {
	s := open(t, store.Options{})
	path := filepath.Join(t.TempDir(), "m.gguf")
	spec{ctx: 512}.write(t, path)
	for name, o := range map[string]store.AddOptions{
		"context": {Profile: model.Profile{Context: 513}}, "bits": {Profile: model.Profile{Act: 4}}, "name": {Name: "a/b"},
	} {
		if _, err := s.Add(t.Context(), path, o); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Add(t.Context(), path+"x", store.AddOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := s.Adopt(t.Context(), path, store.AddOptions{}); err == nil || !strings.Contains(err.Error(), "downloads") {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the user's file was touched")
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
}

func TestNamesAreMadeFromFileNames(t *testing.T) {
	for file, want := range map[string]string{
		"/x/SmolLM2-135M.Q4_1.gguf": "SmolLM2-135M.Q4_1", `C:\m\a b.gguf`: "a-b", "m-00001-of-00003.gguf": "m", "ü.gguf": "model",
		"hf:x": "x", strings.Repeat("a", 300): strings.Repeat("a", 128), "-m-.gguf": "m", "m-0000x-of-00003.gguf": "m-0000x-of-00003",
	} {
		got := store.NameOf(file)
		if got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
		if err := store.CheckName(got); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a@b", "a b", ".x", "hf:x", strings.Repeat("a", 129), "a\n"} {
		if store.CheckName(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestEntriesOfManyWritersAreAllKept(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(t.TempDir(), "m.gguf")
	spec{layers: 1}.write(t, path)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := store.Open(home, store.Options{}) // as another process would
			if err == nil {
				_, err = s.Add(t.Context(), path, store.AddOptions{Name: fmt.Sprintf("m%d", i)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := store.Open(home, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(); err != nil || len(all) != 8 {
		t.Fatal(len(all), err)
	}
}

func TestDamagedListOfModelsIsAClearError(t *testing.T) {
	s, _, _, _ := two(t)
	path := filepath.Join(filepath.Dir(s.DownloadDir()), "models.json")
	for _, b := range []string{"{", `{"version": 99}`} {
		if err := os.WriteFile(path, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.List(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", b, err)
		}
		if _, err := s.Resolve("a"); err == nil {
			t.Error("resolved")
		}
	}
}

func TestDamagedManifestIsNotBelieved(t *testing.T) {
	home := t.TempDir()
	s, err := store.Open(home, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	spec{layers: 1}.write(t, path)
	e, err := s.Add(t.Context(), path, store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "models", "manifests", e.Model.String())
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(home, store.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Model(e); !errors.Is(err, manifest.ErrDamaged) {
		t.Error(err)
	}
	if _, err := s.Remove("m"); err != nil {
		t.Fatalf("a model whose manifest is damaged cannot be removed: %v", err)
	}
}

func TestSecondDaemonOfAHomeIsRefusedWithThePIDOfTheFirst(t *testing.T) {
	home := filepath.Join(t.TempDir(), "new")
	l, err := store.Lock(home)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Lock(home); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockFromAnotherProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "WEFT_TEST_LOCK="+home)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatalf("%v: %s", err, out)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	l, err = store.Lock(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Lock(filepath.Join(home, "file")); err == nil {
		t.Error("a file was taken for a home")
	}
	if _, err := store.Open(filepath.Join(home, "file"), store.Options{}); err == nil {
		t.Error("a store was opened in a file")
	}
}

// TestLockFromAnotherProcess is the other process of the test above.
func TestLockFromAnotherProcess(t *testing.T) {
	home := os.Getenv("WEFT_TEST_LOCK")
	if home == "" {
		return // it is nobody's other process
	}
	_, err := store.Lock(home)
	if !errors.Is(err, store.ErrLocked) {
		t.Fatal(err)
	}
	t.Log(err)
}
